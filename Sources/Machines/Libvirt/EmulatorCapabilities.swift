import Crypto
import Errors
import Foundation
import Glibc
import Linux

/// What the embedded driver knows of QEMU, for the machines of one accelerator.
///
/// libvirt copies all that it knows of a QEMU for each machine that it starts, and keeps the copy as long as the machine runs: some 300 KB
/// (libvirt 9.0, virQEMUCapsNewCopy), of which two thirds are about processors under the other accelerator and about what each model lacks.
/// It has a file of it for each path of a QEMU, which it believes as long as QEMU, libvirt and the kernel are those that the file names.
/// Machines get their QEMU by another path of the same program, for which libvirt finds less. A file that it does not like it replaces by a
/// whole one: then machines take more memory, and nothing else changes.
struct EmulatorCapabilities {
    /// Of libvirt's files.
    let directory: String

    /// Far above the 230 KB of QEMU 7.2.
    private static let largest = 16 << 20

    /// Writes down what libvirt is to know.
    ///
    /// - Parameter emulator: of which libvirt has written down all.
    /// - Returns: the path for machines of each accelerator; nothing where libvirt's file is not there, or not as expected.
    /// - Throws: the errno of what cannot be written.
    func prepare(_ emulator: String) throws -> [Accelerator: String] {
        guard let text = KernelFile.text(file(of: emulator), limit: Self.largest), let whole = try? XMLTag(parsing: text),
            whole.name == "qemuCaps", whole["emulator"]?.text == emulator
        else { return [:] }
        var paths: [Accelerator: String] = [:]
        for accelerator in Accelerator.allCases where whole.all("cpu").contains(where: { $0.attribute("type") == accelerator.rawValue }) {
            let path = Self.path(to: emulator, for: accelerator)
            try write(Self.reduced(whole, to: accelerator, path: path).rendered(), to: file(of: path))
            paths[accelerator] = path
        }
        return paths
    }

    /// The same program by another name: "/usr/bin/./qemu", "/usr/bin/././qemu".
    static func path(to emulator: String, for accelerator: Accelerator) -> String {
        let slash = emulator.lastIndex(of: "/") ?? emulator.startIndex
        let detour = String(repeating: "/.", count: accelerator == .tcg ? 1 : 2)
        return emulator[..<slash] + detour + emulator[slash...]
    }

    static func reduced(_ whole: XMLTag, to accelerator: Accelerator, path: String) -> XMLTag {
        var reduced = whole
        reduced.children = whole.children.compactMap { child in
            var child = child
            switch child.name {
            case "emulator": child.text = path
            case "cpu", "hostCPU":
                guard child.attribute("type") == accelerator.rawValue else { return nil }
                // By what a model lacks libvirt finds the model nearest to the host's processor: under KVM alone.
                if accelerator == .tcg { child.children.removeAll { $0.name == "blocker" } }
            default: break
            }
            return child
        }
        return reduced
    }

    /// As libvirt names it (virFileCacheGetFileName).
    private func file(of emulator: String) -> String {
        let digest = SHA256.hash(data: Array(emulator.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
        return "\(directory)/\(digest.joined()).xml"
    }

    /// Leaves a file that holds the text already as it is: on a full disk it could not be written again.
    private func write(_ text: String, to file: String) throws {
        if KernelFile.text(file, limit: Self.largest) == text { return }
        try Data(text.utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
        guard chmod(file, 0o600) == 0 else { throw SwiftletError.system("chmod \(file)") }
    }
}
