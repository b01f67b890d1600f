import CRI
import Errors
import Foundation
import GRPC
import Runtime

/// What the operator's command asks for beyond the CRI.
extension CRIService {
    func addOperatorMethods(to table: inout MethodTable) {
        add(OperatorRPC.loadImage, to: &table, loadImage)
        add(OperatorRPC.describeMachine, to: &table, describeMachine)
        add(OperatorRPC.controlMachine, to: &table, controlMachine)
        add(OperatorRPC.screenshot, to: &table, screenshot)
        add(OperatorRPC.checkDisk, to: &table, checkDisk)
        add(OperatorRPC.addAuthorizedKeys, to: &table, addAuthorizedKeys)
    }

    @Sendable private func describeMachine(_ request: OperatorDescribeMachineRequest) async throws -> OperatorDescribeMachineResponse {
        let machine = try await pods.describeMachine(of: request.id, withXML: request.withXml)
        return .with {
            ($0.name, $0.uuid, $0.state) = (machine.name, machine.uuid, machine.state.rawValue)
            $0.pid = Int64(machine.process ?? 0)
            $0.vcpus = UInt32(clamping: machine.vcpus ?? 0)
            $0.memory = machine.memory ?? 0
            ($0.console, $0.vncSocket) = (machine.console, machine.vncSocket ?? "")
            ($0.xml, $0.containerID) = (machine.xml ?? "", machine.container ?? "")
        }
    }

    /// For a guest to reboot, where the client names no time.
    private static let rebootPatience = Duration.seconds(240)
    /// For the answer to reach the client before it stops waiting.
    private static let answerTime = Duration.seconds(1)

    @Sendable private func controlMachine(
        _ request: OperatorControlMachineRequest, _ deadline: ContinuousClock.Instant?
    ) async throws -> OperatorControlMachineResponse {
        switch request.action {
        case .reset: try await pods.resetMachine(of: request.id)
        case .reboot:
            let left = deadline.map { ContinuousClock.now.duration(to: $0) - Self.answerTime }
            try await pods.rebootMachine(of: request.id, within: max(left ?? Self.rebootPatience, .zero))
        case .pause: try await pods.pauseMachine(of: request.id)
        case .resume: try await pods.resumeMachine(of: request.id)
        case .unknown, .UNRECOGNIZED:
            throw SwiftletError(.invalidArgument, "ControlMachine: action \(request.action.rawValue) is none that this version knows")
        }
        return .init()
    }

    /// Of a reply, which may have 16 MiB.
    private static let largestPicture = 15 << 20

    @Sendable private func screenshot(_ request: OperatorScreenshotRequest) async throws -> OperatorScreenshotResponse {
        let picture = try await pods.screenshot(of: request.id)
        guard picture.count <= Self.largestPicture else {
            throw SwiftletError(.resourceExhausted, "Screenshot: the picture has \(picture.count) bytes, more than \(Self.largestPicture)")
        }
        return .with { $0.png = Data(picture) }
    }

    @Sendable private func checkDisk(_ request: OperatorCheckDiskRequest) async throws -> OperatorCheckDiskResponse {
        let (disks, isRunning) = try await pods.checkDisks(of: request.id)
        return .with {
            $0.running = isRunning
            $0.disks = disks.map { disk in
                .with {
                    ($0.serial, $0.path) = (disk.serial, disk.path)
                    ($0.corruptions, $0.leaks, $0.checkErrors) = (disk.corruptions, disk.leaks, disk.checkErrors)
                    ($0.totalClusters, $0.allocatedClusters) = (disk.totalClusters, disk.allocatedClusters)
                }
            }
        }
    }

    private static let mostKeys = 1000
    private static let longestKey = 16 << 10

    @Sendable private func addAuthorizedKeys(
        _ request: OperatorAddAuthorizedKeysRequest
    ) async throws -> OperatorAddAuthorizedKeysResponse {
        guard (1...Self.mostKeys).contains(request.keys.count) else {
            throw SwiftletError(.invalidArgument, "AddAuthorizedKeys: \(request.keys.count) keys; from 1 to \(Self.mostKeys) can be added")
        }
        for (number, key) in request.keys.enumerated() {
            guard (1...Self.longestKey).contains(key.utf8.count), !key.unicodeScalars.contains(where: { $0.value < 0x20 && $0 != "\t" })
            else { throw SwiftletError(.invalidArgument, "AddAuthorizedKeys: keys[\(number)] is no line of authorized_keys") }
        }
        let user = request.user.isEmpty ? "root" : request.user
        try Validation.word(user, "user")
        try await pods.addAuthorizedKeys(request.keys, of: user, in: request.id)
        return .init()
    }
}
