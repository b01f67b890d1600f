import State

extension ContainerRecord {
    /// The same container under another id and name, for databases that are made to be measured.
    ///
    /// - Throws: what reading this record's document failed with.
    public func copy(id: String, name: String, createdAt: Int64) throws -> ContainerRecord {
        var document = try ContainerDocument(stored: document)
        document.spec.metadata.name = name
        return ContainerRecord(id: id, sandboxID: sandboxID, state: state, createdAt: createdAt, document: try document.stored())
    }
}
