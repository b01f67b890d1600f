import Errors
import Foundation
import GuestHardware
import YAML

extension VMAnnotations {
    mutating func readDisks(_ reader: inout AnnotationReader) {
        rootSize = reader.bytes("root-size", virtlet: "VirtletRootVolumeSize", least: 1 << 20, most: 64 << 40)
        overwritesPersistentRoot = reader.flag("persistent-root-overwrite")
        if let annotation = reader.take("root-volume") { rootVolume = Self.mountPath(annotation, &reader) }
        if let annotation = reader.take("state-volume") { stateVolume = Self.mountPath(annotation, &reader) }
        if let bus: DiskBus = reader.choice("disk-bus", virtlet: "VirtletDiskDriver") { diskBus = bus }
        if let annotation = reader.take("data-volumes") { dataVolumes = Self.dataVolumes(annotation, diskBus, &reader) }
        if let (name, value) = reader.take("seed-volumes") {
            let paths = value.split { $0 == "," || $0.isWhitespace }.map(String.init)
            if paths == ["all"] {
                seedVolumes = .all
            } else if paths.isEmpty || paths.contains(where: { GuestPath($0) == nil }) {
                reader.refuse(name, "\(quoted(value)) is neither all nor a list of the mounts' paths")
            } else {
                seedVolumes = .paths(Set(paths.compactMap { GuestPath($0)?.text }))
            }
        }
        if let (name, _) = reader.take("scratch-size") {
            reader.refuse(name, "a VM pod has no scratch disk; its root disk's size is \(AnnotationReader.prefix)root-size")
        }
        // 9p's: under virtiofs the guest sees the owners that the files have.
        _ = reader.takeVirtlet("VirtletChown9pfsMounts")
    }

    private static func mountPath(_ annotation: (name: String, value: String), _ reader: inout AnnotationReader) -> String? {
        let path = GuestPath(annotation.value)?.text
        if path == nil { reader.refuse(annotation.name, "\(quoted(annotation.value)) is no path of a mount") }
        return path
    }

    mutating func readMachine(_ reader: inout AnnotationReader) {
        if let (name, value) = reader.take("vcpus", virtlet: "VirtletVCPUCount") {
            let number = Int(value)
            let isOwn = name.hasPrefix(AnnotationReader.prefix)
            switch number {
            case nil: reader.refuse(name, "\(quoted(value)) is no whole number")
            case .some(let count) where count > 255 || isOwn && count < 1: reader.refuse(name, "\(quoted(value)) is not from 1 to 255")
            case .some(let count): vcpus = max(count, 1)
            }
        }
        memory = reader.bytes("memory", least: 32 << 20, most: 16 << 40)
        mostMemory = reader.bytes("memory-max", least: 32 << 20, most: 16 << 40)
        if let (name, value) = reader.take("vcpus-max") {
            mostVCPUs = Int(value).flatMap { (1...255).contains($0) ? $0 : nil }
            if mostVCPUs == nil { reader.refuse(name, "\(quoted(value)) is not from 1 to 255") }
        }
        readCPU(&reader)
        if let (name, value) = reader.take("system-uuid", virtlet: "VirtletSystemUUID") {
            // Virtlet's code takes one without dashes as well.
            let digits = value.filter { $0 != "-" }.lowercased()
            if digits.utf8.count == 32, let uuid = UUID(uuidString: Self.dashed(digits)) {
                systemUUID = uuid.uuidString.lowercased()
            } else {
                reader.refuse(name, "\(quoted(value)) is no UUID")
            }
        }
        if let value: Firmware = reader.choice("firmware") { firmware = value }
        hasTPM = reader.flag("tpm")
        watchdog = reader.choice("watchdog")
        if let value: Graphics = reader.choice("graphics") { graphics = value }
        if let value: RebootPolicy = reader.choice("reboot") { reboot = value }
        if let value: AgentChoice = reader.choice("agent") { agent = value }
    }

    private static func dashed(_ digits: String) -> String {
        var rest = Substring(digits)
        return [8, 4, 4, 4, 12].map { count in
            defer { rest = rest.dropFirst(count) }
            return String(rest.prefix(count))
        }.joined(separator: "-")
    }

    // MARK: CPU

    private mutating func readCPU(_ reader: inout AnnotationReader) {
        if let (name, value) = reader.take("cpu-model", virtlet: "VirtletCPUModel"), !value.isEmpty {
            if name.hasPrefix(AnnotationReader.prefix) {
                if let mode = CPUSetting.Mode(rawValue: value), mode != .custom {
                    cpu = CPUSetting(mode: mode)
                } else if Self.isCPUWord(value) {
                    cpu = CPUSetting(mode: .custom, model: value)
                } else {
                    reader.refuse(name, "\(quoted(value)) is no CPU model, nor host-model, host-passthrough or maximum")
                }
            } else if value == "host-model" {
                var setting = CPUSetting(mode: .hostModel)
                setting.allowsFallback = false
                setting.nestedVirtualization = true
                cpu = setting
            } else {
                reader.refuse(name, "\(quoted(value)) is not host-model, all that it may be")
            }
        }
        guard let annotation = reader.take("cpu", virtlet: "VirtletLibvirtCPUSetting") else { return }
        guard let document = reader.mapping(annotation) else { return }
        if let setting = Self.cpuSetting(document, annotation.name, &reader) { cpu = setting }
    }

    /// Libvirt's names without quotes around them: "Skylake-Client-noTSX-IBRS", "sse4.1".
    private static func isCPUWord(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || [0x2D, 0x2E, 0x5F].contains($0)
            }
    }

    /// libvirt's `<cpu>` as YAML: mode, match, model {value, fallback}, features [{name, policy}]; keys in either case, as ghodss/yaml takes
    /// them.
    private static func cpuSetting(_ document: YAMLValue, _ name: String, _ reader: inout AnnotationReader) -> CPUSetting? {
        guard let fields = fields(document, of: ["mode", "match", "model", "features"], name, &reader) else { return nil }
        var setting = CPUSetting(mode: .custom)
        if let value = fields["mode"]?.text {
            guard let mode = CPUSetting.Mode(rawValue: value) else {
                reader.refuse(name, "mode \(quoted(value)) is none of \(CPUSetting.Mode.allCases.map(\.rawValue).joined(separator: ", "))")
                return nil
            }
            setting.mode = mode
        }
        if let value = fields["match"]?.text, !value.isEmpty {
            guard let match = CPUSetting.Match(rawValue: value) else {
                reader.refuse(
                    name, "match \(quoted(value)) is none of \(CPUSetting.Match.allCases.map(\.rawValue).joined(separator: ", "))")
                return nil
            }
            setting.match = match
        }
        if let model = fields["model"] {
            if let text = model.text {
                setting.model = text
            } else {
                guard let parts = Self.fields(model, of: ["value", "fallback", "vendorid"], name, &reader) else { return nil }
                setting.model = parts["value"]?.text
                setting.allowsFallback = parts["fallback"]?.text != "forbid"
            }
        }
        if let model = setting.model, !isCPUWord(model) {
            reader.refuse(name, "model \(quoted(model)) is no CPU model")
            return nil
        }
        guard (setting.mode == .custom) == (setting.model != nil) else {
            reader.refuse(name, setting.mode == .custom ? "mode custom needs a model" : "mode \(setting.mode.rawValue) takes no model")
            return nil
        }
        guard let features = cpuFeatures(fields["features"], name, &reader) else { return nil }
        setting.features = features
        return setting
    }

    private static func cpuFeatures(_ value: YAMLValue?, _ name: String, _ reader: inout AnnotationReader) -> [CPUSetting.Feature]? {
        guard let value, !value.isNull else { return [] }
        guard case .sequence(let items) = value, items.count <= 100 else {
            reader.refuse(name, "features are no list of at most 100")
            return nil
        }
        var features: [CPUSetting.Feature] = []
        for item in items {
            guard let fields = fields(item, of: ["name", "policy"], name, &reader) else { return nil }
            guard let feature = fields["name"]?.text, isCPUWord(feature),
                let policy = CPUSetting.Feature.Policy(rawValue: fields["policy"]?.text ?? "require")
            else {
                reader.refuse(name, "a feature needs a name, and a policy that is force, require, optional, disable or forbid")
                return nil
            }
            features.append(.init(name: feature, policy: policy))
        }
        return features
    }

    // MARK: Data volumes

    private static func dataVolumes(
        _ annotation: (name: String, value: String), _ bus: DiskBus, _ reader: inout AnnotationReader
    ) -> [DataVolume] {
        guard let document = reader.yaml(annotation) else { return [] }
        guard case .sequence(let items) = document, items.count <= 20 else {
            reader.refuse(annotation.name, "not a list of at most 20 volumes")
            return []
        }
        let volumes = items.compactMap { dataVolume($0, annotation.name, bus, &reader) }
        if Set(volumes.map(\.name)).count < volumes.count { reader.refuse(annotation.name, "two volumes have the same name") }
        let paths = volumes.compactMap(\.mountPath)
        if Set(paths).count < paths.count { reader.refuse(annotation.name, "two volumes have the same mountPath") }
        return volumes
    }

    /// Serial numbers of the disks that every machine may have.
    private static let ownDisks: Set = ["root", "seed", AgentStart.serial]

    private static func dataVolume(
        _ item: YAMLValue, _ name: String, _ bus: DiskBus, _ reader: inout AnnotationReader
    ) -> DataVolume? {
        guard let fields = fields(item, of: ["name", "size", "mountpath", "devicepath", "filesystem"], name, &reader) else { return nil }
        let isNameByte = { (byte: UInt8) in (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2D }
        guard let volume = fields["name"]?.text, (1...bus.longestSerial).contains(volume.utf8.count), volume.utf8.allSatisfy(isNameByte)
        else {
            reader.refuse(
                name,
                "\(quoted(fields["name"]?.text ?? "")) is no name of 1 to \(bus.longestSerial) lower-case letters, digits and dashes, as a disk of bus \(bus.rawValue) shows"
            )
            return nil
        }
        guard !ownDisks.contains(volume) else {
            reader.refuse(name, "\(volume): a disk of the machine's own has this name")
            return nil
        }
        // Virtlet's flexvolume has 1024 MB where nothing is said.
        guard let size = Quantity.bytes(fields["size"]?.text ?? "1024M"), (1 << 20...64 << 40).contains(size) else {
            reader.refuse(name, "\(volume): size \(quoted(fields["size"]?.text ?? "")) is no quantity from 1Mi to 64Ti")
            return nil
        }
        let filesystem = fields["filesystem"]?.text ?? "ext4"
        guard ["ext4", "xfs", "btrfs"].contains(filesystem) else {
            reader.refuse(name, "\(volume): filesystem \(quoted(filesystem)) is none of ext4, xfs, btrfs")
            return nil
        }
        let mount = fields["mountpath"]?.text.map { GuestPath($0) }
        let device = fields["devicepath"]?.text.map { GuestPath($0) }
        if case .some(nil) = mount {
            reader.refuse(name, "\(volume): mountPath is no absolute path below /")
            return nil
        }
        if let device, device?.text.hasPrefix("/dev/") != true {
            reader.refuse(name, "\(volume): devicePath is no path below /dev")
            return nil
        }
        return DataVolume(
            name: volume, size: size, mountPath: mount.flatMap { $0?.text }, devicePath: device.flatMap { $0?.text },
            filesystem: filesystem)
    }

    /// A mapping's members by their names in lower case; nil, and refused, when it is none or has others.
    private static func fields(
        _ value: YAMLValue, of names: Set<String>, _ annotation: String, _ reader: inout AnnotationReader
    ) -> [String: YAMLValue]? {
        guard case .mapping(let members) = value else {
            reader.refuse(annotation, "not a mapping of keys to values")
            return nil
        }
        if let unknown = members.first(where: { !names.contains($0.key.text.lowercased()) }) {
            reader.refuse(annotation, "\(quoted(unknown.key.text)) is none of its keys")
            return nil
        }
        return Dictionary(members.map { ($0.key.text.lowercased(), $0.value) }, uniquingKeysWith: { $1 })
    }
}
