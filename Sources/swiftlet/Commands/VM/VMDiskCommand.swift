import ArgumentParser
import CRI

struct VMDiskCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disk", abstract: "Looks at machines' disks.", subcommands: [VMDiskCheckCommand.self])
}

struct VMDiskCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Checks the tables of a machine's qcow2 disks; changes nothing.",
        discussion: """
            Of its root disk and its data volumes, also while it runs: what it has not written yet may show as errors then, and does not \
            after vm pause. Ends with 1 when a disk is damaged; clusters that belong to nothing (leaks) are no damage.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    @Argument(help: "Id or name of a pod or a container.")
    var machine: String

    func run() async throws {
        let daemon = try connection.daemon()
        let target = try await Targets.load(from: daemon).resolve(machine)
        let reply = try await daemon.call(
            OperatorRPC.checkDisk, .with { $0.id = target.id }, "checking the disks of \(machine)", within: nil)
        let report = VMDiskReport(reply)
        switch format.output {
        case .json: Terminal.output(try JSONText.of(report))
        case .text:
            Terminal.output(report.table.rendered())
            if report.isDamaged, report.running {
                Terminal.error("swiftlet: \(machine) runs, and may not have written all; check it again after swiftlet vm pause\n")
            }
        }
        if report.isDamaged { throw ExitCode.failure }
    }
}

/// What `vm disk check` shows. Its JSON form is part of the command's interface.
struct VMDiskReport: Encodable, Equatable {
    struct Disk: Encodable, Equatable {
        var disk: String
        var path: String
        var allocatedClusters: UInt64
        var totalClusters: UInt64
        var leaks: UInt64
        var corruptions: UInt64
        var checkErrors: UInt64

        var isDamaged: Bool { corruptions > 0 || checkErrors > 0 }
    }

    var running: Bool
    var disks: [Disk]

    init(_ reply: OperatorCheckDiskResponse) {
        running = reply.running
        disks = reply.disks.map {
            Disk(
                disk: $0.serial, path: $0.path, allocatedClusters: $0.allocatedClusters, totalClusters: $0.totalClusters, leaks: $0.leaks,
                corruptions: $0.corruptions, checkErrors: $0.checkErrors)
        }
    }

    var isDamaged: Bool { disks.contains(where: \.isDamaged) }

    var table: Table {
        var table = Table(["DISK", "RESULT", "CLUSTERS", "LEAKS", "CORRUPTIONS", "ERRORS", "PATH"])
        table.rows = disks.map { disk in
            [
                disk.disk, disk.isDamaged ? "damaged" : "ok", "\(disk.allocatedClusters)/\(disk.totalClusters)", "\(disk.leaks)",
                "\(disk.corruptions)", "\(disk.checkErrors)", disk.path,
            ]
        }
        return table
    }
}
