import Errors
import Foundation
import Linux

/// What `qemu-img check` found in a qcow2 file.
public struct DiskCheck: Sendable, Equatable {
    /// Clusters that are referred to wrongly.
    public var corruptions: UInt64
    /// Clusters that are taken and belong to nothing.
    public var leaks: UInt64
    /// Errors of the check itself.
    public var checkErrors: UInt64
    public var totalClusters: UInt64
    public var allocatedClusters: UInt64
}

extension OverlayDisk {
    /// Seconds of processor time: the tables of a disk of 1 TiB are 128 MiB.
    private static let checkTime = 300

    /// Checks the tables of a qcow2 file, of which a machine may be writing: what it has not written yet may show as errors then.
    /// Nothing is changed, and no file below is opened.
    ///
    /// - Parameter owner: of the file; qemu-img runs as this user.
    /// - Throws: `notFound` without the file; `dataLoss` with qemu-img's words, where it cannot read it; `deadlineExceeded`.
    public func check(_ path: String, owner: MachineUser) async throws -> DiskCheck {
        try MachineSpec.checkPath(path)
        let step = "check disk \(path)"
        guard access(path, F_OK) == 0 else {
            throw SwiftletError(errno == ENOENT ? .notFound : .internal, "\(step): \(SystemError(errno))")
        }
        let program = UnprivilegedProgram(
            path: program, user: owner, addressSpace: 4 << 30, processorTime: Self.checkTime, deadline: .seconds(Self.checkTime))
        let result = try await program.spawn(["check", "--output=json", "-U", "--", Self.qcow2WithoutBase(path)]).run()
        // qemu-img(1): 2 for corruption, 3 for leaks; both come with a report.
        guard [0, 2, 3].contains(result.status), let report = DiskCheck(report: result.output) else {
            let said = result.errorText.prefix(1024).split(whereSeparator: \.isNewline).joined(separator: "; ")
            throw SwiftletError(.dataLoss, "\(step): \(said.isEmpty ? "qemu-img ended with \(result.status)" : said)")
        }
        return report
    }
}

extension DiskCheck {
    private struct Report: Decodable {
        var corruptions: UInt64?
        var leaks: UInt64?
        var checkErrors: UInt64
        var totalClusters: UInt64?
        var allocatedClusters: UInt64?

        enum CodingKeys: String, CodingKey {
            case corruptions, leaks
            case checkErrors = "check-errors"
            case totalClusters = "total-clusters"
            case allocatedClusters = "allocated-clusters"
        }
    }

    /// - Parameter report: qemu-img's (ImageCheck in QEMU's qapi/block-core.json): numbers that are 0 are left out.
    init?(report: some Sequence<UInt8>) {
        guard let report = try? JSONDecoder().decode(Report.self, from: Data(report)) else { return nil }
        self.init(
            corruptions: report.corruptions ?? 0, leaks: report.leaks ?? 0, checkErrors: report.checkErrors,
            totalClusters: report.totalClusters ?? 0, allocatedClusters: report.allocatedClusters ?? 0)
    }
}
