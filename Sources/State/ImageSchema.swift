import GRDB

/// Tables of the image store.
enum ImageSchema {
    static func create(_ database: Database) throws {}
}
