import Runtime

extension SandboxFigures {
    /// A guest may say less of its writable layers than they take on the node, to be spared an eviction: what is missing is added to them
    /// in proportion to what it says, or in equal parts where it says nothing.
    ///
    /// - Parameter bytes: what the node counts for all of them together.
    mutating func raiseWritableLayers(to bytes: UInt64) {
        let reported = containers.map { $0.writableLayer?.usedBytes ?? 0 }
        let sum = reported.reduce(UInt64(0), &+)
        guard bytes > sum, !containers.isEmpty else { return }
        for index in containers.indices {
            let share = sum == 0 ? 1 / Double(containers.count) : Double(reported[index]) / Double(sum)
            var layer = containers[index].writableLayer ?? LayerUsage()
            layer.usedBytes = reported[index] + UInt64(Double(bytes - sum) * share)
            containers[index].writableLayer = layer
        }
    }
}

extension UInt64 {
    /// The difference; 0 where the other is larger.
    func subtracting(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}
