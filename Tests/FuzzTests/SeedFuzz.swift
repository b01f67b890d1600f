import Runtime
import YAML

@testable import CloudInit

/// What the author of a VM pod says in its annotations.
enum SeedFuzz {
    /// A name, a zero byte, its value, a zero byte, and the next; with the seeds that are made of them.
    static func annotations(_ bytes: [UInt8]) {
        let fields = bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
        var pod: [String: String] = [:]
        for index in stride(from: 0, to: fields.count - 1, by: 2) { pod[fields[index]] = fields[index + 1] }
        guard let annotations = try? VMAnnotations(pod: pod) else { return }
        precondition(annotations.vcpus.map { (1...255).contains($0) } ?? true)
        precondition(Set(annotations.dataVolumes.map(\.name)).count == annotations.dataVolumes.count)
        for volume in annotations.dataVolumes {
            let serial = annotations.diskBus.serial(of: volume.name)
            precondition((1...annotations.diskBus.longestSerial).contains(serial.utf8.count), "the bus shows it whole")
        }
        guard let data = try? annotations.seedData(from: []) else { return }
        let metadata = SandboxSpec.Metadata(name: "n", uid: "u", namespace: "d", attempt: 0)
        var request = SeedRequest(pod: metadata, hostname: "n", annotations: annotations, data: data, network: nil)
        request.disks = annotations.dataVolumes.map { GuestDisk($0, bus: annotations.diskBus) }
        for format in SeedFormat.allCases {
            guard let seed = try? Seed(request, format: format) else { continue }
            precondition(seed.files.reduce(0) { $0 + $1.contents.count } <= Seed.mostBytes)
            guard let image = try? ISOImage.image(of: seed) else { preconditionFailure("a seed has an image") }
            precondition(image.count.isMultiple(of: 2048))
        }
    }

    /// What is read is written so that it is read as the same again.
    static func yaml(_ bytes: [UInt8]) {
        guard let value = try? YAMLReader.read(String(decoding: bytes, as: UTF8.self)) else { return }
        let text = YAMLWriter.write(value)
        // Indentation takes room, and an alias is written out.
        let limits = YAMLReader.Limits(bytes: 32 << 20, nodes: 100_000, depth: 60)
        let again = try? YAMLReader.read(text, limits: limits)
        precondition(again.map(types) == types(value), "\(text)")
    }

    /// The same with the types in the place of how they are written.
    private static func types(_ value: YAMLValue) -> YAMLValue {
        switch value {
        case .scalar(let scalar): .scalar(type(scalar))
        case .sequence(let items): .sequence(items.map(types))
        case .mapping(let members): .mapping(members.map { YAMLValue.Member(key: type($0.key), value: types($0.value)) })
        }
    }

    private static func type(_ scalar: YAMLScalar) -> YAMLScalar { YAMLScalar(text: "\(scalar.json)", tag: scalar.tag) }
}
