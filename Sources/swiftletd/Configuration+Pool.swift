import Errors
import Machines
import MicroVMRuntime

extension Configuration {
    private static let sizes = 1...1024

    /// - Throws: `.invalidArgument` naming the key, for a number that is none, for two shapes that are one, and for more machines than the
    ///   node has memory or users for.
    func checkedPool(of machines: MicroVMConfiguration) throws -> PoolConfiguration {
        guard pool.size == 0 || Self.sizes.contains(pool.size) else {
            throw SwiftletError(.invalidArgument, "pool.size \(pool.size) is not from 0 to \(Self.sizes.upperBound)")
        }
        var machines = machines
        machines.pool = PoolConfiguration(
            size: pool.size, shapes: try pool.shapes.enumerated().map { try checkedShape($1, named: "pool.shapes[\($0)]", of: machines) },
            drains: pool.drain)
        try checkAlike(machines)
        let (shapes, node) = (machines.poolShapes, machines.maximumMemory)
        let total = shapes.reduce(0) { $0 + $1.size }
        guard shapes.reduce(0, { $0 + $1.memory }) <= node else {
            let list = shapes.map { "\($0.size) of \($0.memoryOfOne >> 20)" }.joined(separator: ", ")
            throw SwiftletError(
                .invalidArgument,
                "pool.size \(pool.size)\(pool.shapes.isEmpty ? "" : " and pool.shapes"): that many machines need "
                    + "\(shapes.reduce(0) { $0 + $1.memory } >> 20) MiB, \(list), and the node has \(node >> 20)")
        }
        guard total < machine.podUIDs else {
            throw SwiftletError(
                .invalidArgument,
                "pool.size \(pool.size)\(pool.shapes.isEmpty ? "" : " and pool.shapes"): \(total) machines leave none of "
                    + "machine.pod_uid_count \(machine.podUIDs) for pods")
        }
        return machines.pool
    }

    private func checkedShape(_ shape: Pool.Shape, named name: String, of machines: MicroVMConfiguration) throws -> PoolShape {
        func check(_ key: String, _ value: Int, _ range: ClosedRange<Int>) throws {
            guard !range.contains(value) else { return }
            throw SwiftletError(.invalidArgument, "\(name).\(key) \(value) is not from \(range.lowerBound) to \(range.upperBound)")
        }
        let cpus = shape.cpus ?? machine.defaultCPUs
        try check("size", shape.size, Self.sizes)
        try check("memory_mib", shape.memory, 128...1 << 20)
        try check("cpus", cpus, machine.defaultCPUs...machines.mostCPUs)
        guard shape.memory.isMultiple(of: 2) else {
            throw SwiftletError(.invalidArgument, "\(name).memory_mib \(shape.memory) is odd: a machine's memory is a multiple of 2 MiB")
        }
        return PoolShape(extent: MachineExtent(memoryBytes: UInt64(shape.memory) << 20, vcpus: cpus), size: shape.size)
    }

    /// One that is the default's is named by pool.size.
    private func checkAlike(_ machines: MicroVMConfiguration) throws {
        var names = [machines.defaultExtent: "pool.size"]
        for (index, shape) in machines.pool.shapes.enumerated() {
            let name = "pool.shapes[\(index)]"
            if let other = names.updateValue(name, forKey: shape.extent) {
                throw SwiftletError(
                    .invalidArgument,
                    "\(name): machines of \(shape.extent.memoryBytes >> 20) MiB and \(shape.extent.vcpus) CPUs are \(other)'s already")
            }
        }
    }
}
