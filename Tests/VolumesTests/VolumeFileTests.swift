import Errors
import Foundation
import Glibc
import Testing

@testable import Volumes

/// Files of volumes that machines borrow.
@Suite(.enabled(if: geteuid() == 0, "mounts"), .timeLimit(.minutes(1))) struct VolumeFileTests {
    private let directory = "/tmp/swiftlet-volume-\(UUID().uuidString.prefix(8))"
    private let user: UInt32 = 2_001_500_021

    private func withVolume(_ body: (HostPath) throws -> Void) throws {
        try FileManager.default.createDirectory(atPath: "\(directory)/volume", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try body(try HostPath("\(directory)/volume"))
    }

    private func status(_ path: String) throws -> stat {
        var status = stat()
        try #require(lstat(path, &status) == 0, "\(path)")
        return status
    }

    @Test func aFileIsLentAtAPlaceAndGivenBack() throws {
        try withVolume { volume in
            let file = try VolumeFile("disk.img", in: volume)
            #expect(try file.ownership() == nil)
            try file.make()
            try file.grow(to: 4096)
            try file.grow(to: 100)
            chmod(file.path, 0o640)
            chown(file.path, 7, 8)
            let owner = try #require(try file.ownership())
            #expect(owner == .init(uid: 7, gid: 8, mode: 0o640))
            let place = "\(directory)/place"
            // Twice, as after a start that failed.
            for _ in 0..<2 { try file.lend(at: place, to: user, user) }
            let lent = try status(place)
            #expect(lent.st_uid == user && lent.st_size == 4096 && lent.st_mode & 0o7777 == 0o600)
            #expect(lent.st_ino == (try status(file.path)).st_ino)
            for _ in 0..<2 { try VolumeFile.giveBack(place, from: user, to: owner) }
            #expect(try file.ownership() == owner)
            #expect(access(place, F_OK) != 0)
            // Somebody else's by now: it stays so.
            try file.lend(at: place, to: user, user)
            chown(file.path, 9, 9)
            try VolumeFile.giveBack(place, from: user, to: owner)
            #expect(try file.ownership()?.uid == 9)
            try file.lend(at: place, to: user, user)
            try VolumeFile.giveBack(place, from: nil, to: nil)
            #expect(try file.ownership()?.uid == user && access(place, F_OK) != 0)
        }
    }

    @Test func whatIsNoFileOfTheVolumesAloneIsRefused() throws {
        try withVolume { volume in
            let (file, outside) = (try VolumeFile("disk.img", in: volume), "\(directory)/outside")
            try Data("outside".utf8).write(to: URL(fileURLWithPath: outside))
            let makes: [(String) -> Int32] = [
                { symlink(outside, $0) }, { symlink("../outside", $0) }, { link(outside, $0) }, { mkdir($0, 0o755) }, { mkfifo($0, 0o644) },
                { mknod($0, S_IFBLK | 0o644, 0x700) },
            ]
            for (index, make) in makes.enumerated() {
                try #require(make(file.path) == 0)
                let error = #expect(throws: SwiftletError.self, "\(index)") { _ = try file.ownership() }
                #expect(
                    error?.code == .failedPrecondition && error?.message.contains("disk.img") == true,
                    "\(index): \(String(describing: error))")
                #expect(throws: SwiftletError.self, "\(index)") { try file.lend(at: "\(directory)/place", to: user, user) }
                #expect(throws: SwiftletError.self, "\(index)") { try file.grow(to: 1 << 20) }
                _ = index == 3 ? rmdir(file.path) : unlink(file.path)
            }
            #expect(try status(outside).st_uid == 0 && (try status(outside).st_size) == 7)
            #expect(throws: SwiftletError.self) { _ = try VolumeFile("disk.img", in: try HostPath(outside)) }
        }
    }

    @Test func aFileTakesTheOthersPlace() throws {
        try withVolume { volume in
            let file = try VolumeFile("disk.img", in: volume)
            let partial = file.beside("disk.img.partial")
            try file.make()
            try partial.make()
            try partial.grow(to: 9)
            try partial.replace(file)
            #expect(try status(file.path).st_size == 9)
            #expect(try FileManager.default.contentsOfDirectory(atPath: "\(directory)/volume") == ["disk.img"])
            try file.remove()
            try file.remove()
        }
    }
}
