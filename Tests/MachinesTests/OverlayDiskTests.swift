import Errors
import Foundation
import Linux
import Testing

@testable import Machines

/// Overlays by the real qemu-img.
@Suite(.enabled(if: geteuid() == 0, "qemu-img runs as another user"), .timeLimit(.minutes(1))) struct OverlayDiskTests {
    private let owner = MachineUser(uid: 2_001_500_001, gid: 2_001_500_001)
    private let directory = "/tmp/swiftlet-overlay-\(UUID().uuidString.prefix(8))"

    private func withDirectory(_ body: () async throws -> Void) async throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body()
    }

    private func base(_ format: DiskSpec.Format = .qcow2, size: UInt64 = 8 << 20) async throws -> OverlayDisk.Base {
        let path = "\(directory)/base"
        try await Spawn("/usr/bin/qemu-img", ["create", "-q", "-f", format.rawValue, path, "\(size)"]).check()
        // Nobody but root can read it: making an overlay does not open it.
        chmod(path, 0o600)
        return OverlayDisk.Base(file: .init(path: path, format: format), virtualSize: size)
    }

    private func information(_ path: String) async throws -> [String: Any] {
        let said = try await Spawn("/usr/bin/qemu-img", ["info", "--output=json", "-f", "qcow2", path]).check()
        return try #require(try JSONSerialization.jsonObject(with: Data(said.output)) as? [String: Any])
    }

    private func expect(_ code: SwiftletError.Code, _ words: String..., body: () async throws -> Void) async {
        await #expect {
            try await body()
        } throws: { error in
            (error as? SwiftletError)?.code == code && words.allSatisfy { "\(error)".contains($0) }
        }
    }

    @Test(arguments: [DiskSpec.Format.qcow2, .raw]) func anOverlayNamesItsImageAndBelongsToTheMachinesUser(
        format: DiskSpec.Format
    )
        async throws
    {
        try await withDirectory {
            let (base, path) = (try await base(format), "\(directory)/root.qcow2")
            for size: UInt64? in [nil, 20 << 20] {
                try await OverlayDisk().create(path, on: base, size: size, owner: owner)
                let information = try await information(path)
                #expect(information["virtual-size"] as? UInt64 == size ?? 8 << 20)
                #expect(information["backing-filename"] as? String == base.file.path)
                #expect(information["backing-filename-format"] as? String == format.rawValue)
                let attributes = try FileManager.default.attributesOfItem(atPath: path)
                #expect(attributes[.ownerAccountID] as? UInt32 == owner.uid && attributes[.posixPermissions] as? Int == 0o600)
            }
            #expect(try FileManager.default.attributesOfItem(atPath: base.file.path)[.ownerAccountID] as? Int == 0)
        }
    }

    @Test func aSizeBelowTheImagesIsRefusedWithBothAndLeavesNothing() async throws {
        try await withDirectory {
            let (base, path) = (try await base(), "\(directory)/root.qcow2")
            await expect(.invalidArgument, "1048576", "8388608") {
                try await OverlayDisk().create(path, on: base, size: 1 << 20, owner: owner)
            }
            await expect(.invalidArgument) { try await OverlayDisk().create(path, on: nil, owner: owner) }
            await expect(.invalidArgument) { try await OverlayDisk().create(path, on: nil, size: 1 << 60, owner: owner) }
            await expect(.invalidArgument) { try await OverlayDisk().create("relative", on: base, owner: owner) }
            let gone = OverlayDisk.Base(file: .init(path: "\(directory)/gone", format: .raw), virtualSize: 1 << 20)
            await expect(.notFound, "gone") { try await OverlayDisk().create(path, on: gone, owner: owner) }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["base"])
        }
    }

    @Test func aProgramThatFailsOrHangsLeavesNothing() async throws {
        try await withDirectory {
            let path = "\(directory)/disk.qcow2"
            await expect(.internal, "status 1") {
                try await OverlayDisk(program: "/bin/false").create(path, on: nil, size: 1 << 20, owner: owner)
            }
            let slow = "\(directory)/slow"
            try Data("#!/bin/sh\nexec sleep 100\n".utf8).write(to: URL(filePath: slow))
            chmod(slow, 0o755)
            await expect(.deadlineExceeded) {
                try await OverlayDisk(program: slow, deadline: .milliseconds(300)).create(path, on: nil, size: 1 << 20, owner: owner)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["slow"])
        }
    }

    @Test func aDiskGrowsAndNeverShrinksAndWhatItLiesOnStaysClosed() async throws {
        try await withDirectory {
            let (base, path) = (try await base(), "\(directory)/root.qcow2")
            try await OverlayDisk().create(path, on: base, owner: owner)
            // The user cannot read the base: opening it would fail.
            try await OverlayDisk().grow(path, format: .qcow2, to: 64 << 20, owner: owner)
            #expect(try await information(path)["virtual-size"] as? UInt64 == 64 << 20)
            try await OverlayDisk().grow(path, format: .qcow2, to: 64 << 20, owner: owner)
            await expect(.invalidArgument, "1048576", "67108864") {
                try await OverlayDisk().grow(path, format: .qcow2, to: 1 << 20, owner: owner)
            }
            let raw = "\(directory)/\"raw\\disk"
            #expect(FileManager.default.createFile(atPath: raw, contents: Data(count: 1 << 20)))
            chown(raw, owner.uid, owner.gid)
            try await OverlayDisk().grow(raw, format: .raw, to: 2 << 20, owner: owner)
            #expect(try FileManager.default.attributesOfItem(atPath: raw)[.size] as? Int == 2 << 20)
            await expect(.invalidArgument) { try await OverlayDisk().grow(raw, format: .raw, to: 1 << 20, owner: owner) }
        }
    }

    @Test func aCheckFindsDamageAndLeaksAndChangesNothing() async throws {
        try await withDirectory {
            let disk = directory + "/disk"
            try await OverlayDisk().create(disk, on: try await base(), owner: owner)
            let sound = try await OverlayDisk().check(disk, owner: owner)
            #expect(sound.corruptions == 0 && sound.leaks == 0 && sound.checkErrors == 0 && sound.totalClusters == 128, "\(sound)")
            // The first entry of the refcount block, the header's cluster, and one that nothing refers to (docs/interop/qcow2.txt: clusters
            // of 64 KiB, counts of 16 bits; header, table, block and L1 table are clusters 0 to 3).
            func change(_ offset: UInt64, to value: UInt8) throws {
                let file = try FileHandle(forUpdating: URL(fileURLWithPath: disk))
                try file.seek(toOffset: offset)
                try file.write(contentsOf: Data([0, value]))
                try file.close()
            }
            #expect(truncate(disk, 10 * 65536) == 0)
            try change(2 * 65536 + 2 * 9, to: 1)
            #expect(try await OverlayDisk().check(disk, owner: owner).leaks == 1)
            try change(2 * 65536, to: 0)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: disk))
            let damaged = try await OverlayDisk().check(disk, owner: owner)
            #expect(damaged.corruptions == 1, "\(damaged)")
            #expect(try Data(contentsOf: URL(fileURLWithPath: disk)) == bytes)
            await expect(.notFound) { _ = try await OverlayDisk().check(disk + "2", owner: owner) }
            try Data(repeating: 7, count: 4096).write(to: URL(fileURLWithPath: disk))
            await expect(.dataLoss, "qcow2") { _ = try await OverlayDisk().check(disk, owner: owner) }
        }
    }

    @Test func sizesAreWholeSectors() throws {
        let base = OverlayDisk.Base(file: .init(path: "/b", format: .raw), virtualSize: 1000)
        #expect(try OverlayDisk.size(nil, on: base, "/a") == 1024)
        #expect(try OverlayDisk.size(1000, on: base, "/a") == 1024)
        #expect(try OverlayDisk.size(1025, on: base, "/a") == 1536)
        #expect(throws: SwiftletError.self) { try OverlayDisk.size(0, on: nil, "/a") }
        #expect(throws: SwiftletError.self) { try OverlayDisk.size(.max, on: base, "/a") }
    }

    @Test func aDevicesNodeIsTheOwnersAndOnlyADevices() async throws {
        try await withDirectory {
            let path = "\(directory)/node"
            for file in ["/dev/null", "/etc/passwd", directory] {
                await expect(.invalidArgument, "not a block device") {
                    try BlockDeviceNode.create(path, of: file, readOnly: false, owner: owner)
                }
            }
            await expect(.notFound) { try BlockDeviceNode.create(path, of: "/dev/none", readOnly: false, owner: owner) }
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.isEmpty)
        }
    }
}
