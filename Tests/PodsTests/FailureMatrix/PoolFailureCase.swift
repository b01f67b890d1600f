import Errors
import Foundation
import Support
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

/// One fault while a machine is made for the pool, or thrown away.
struct PoolFailureCase: Sendable {
    let point: String
    let fault: Fault

    private var isRelease: Bool { point.contains(" release ") }
    /// Machines get their users one after the other.
    private var holdsUp: Bool { point.contains("choose the user") || point.hasSuffix(" acquire user") }

    private static let configuration: PoolConfiguration = {
        var pool = PoolConfiguration(size: 1, drains: true)
        (pool.rest, pool.firstPause, pool.releasePause) = (.milliseconds(1), .milliseconds(1), .milliseconds(1))
        return pool
    }()

    /// The points without a fault.
    static func points(on ground: MatrixGround) async throws -> [String] {
        let node = try MatrixNode(ground, number: 0)
        defer { node.remove() }
        let injector = Injector()
        let daemon = try await node.daemon(pool: configuration)
        try await injector.live {
            try await daemon.registry.recover()
            try await full(daemon)
            await daemon.registry.closePools()
        }
        await daemon.close()
        #expect(try await node.leaks().isEmpty)
        return injector.points
    }

    private static func full(_ daemon: MatrixNode.Daemon) async throws {
        try await Support.eventually("a machine waits") { daemon.handler.pool?.waiting == 1 }
    }

    /// - Returns: what comes of it.
    func run(on ground: MatrixGround, number: Int) async throws -> String {
        let node = try MatrixNode(ground, number: number)
        let injector = Injector(point, fault)
        let first = try await node.daemon(pool: Self.configuration)
        var second: MatrixNode.Daemon?
        var closing: Task<Void, Never>?
        let result: Result<String, any Error>
        do {
            try await injector.live {
                try await first.registry.recover()
                guard isRelease else { return }
                try await Self.full(first)
                closing = Task { await first.registry.closePools() }
            }
            try await Support.eventually("\(self): the fault happens") { injector.isHit }
            if fault == .kill {
                injector.kill()
                try await Support.eventually("\(self): nothing of the dead daemon goes on") { injector.isStill }
                let next = try await node.daemon(pool: Self.configuration)
                second = next
                try await next.registry.recover()
                try await Self.full(next)
                #expect(node.hypervisor.running.count == 1, "\(self)")
                await next.registry.closePools()
            } else {
                try await goOn(first, injector)
                await closing?.value
                await first.registry.closePools()
            }
            #expect(try await node.leaks().isEmpty, "\(self)")
            result = .success(fault == .kill ? "recovered" : isRelease ? "released" : "another waits")
        } catch {
            result = .failure(error)
        }
        injector.end()
        await closing?.value
        await first.close()
        await second?.close()
        node.remove()
        return try result.get()
    }

    private func goOn(_ daemon: MatrixNode.Daemon, _ injector: Injector) async throws {
        guard !isRelease else { return injector.letGo() }
        if fault == .hang, !holdsUp {
            // No pod waits for what is made for the pool.
            let spec = SandboxSpec(metadata: .init(name: "pod", uid: "uid", namespace: "default", attempt: 0))
            let pod = try await daemon.registry.runSandbox(spec)
            #expect(try daemon.registry.sandbox(pod).details["fromPool"] == .bool(false), "\(self)")
            try await daemon.registry.removeSandbox(pod)
        }
        injector.letGo()
        try await Self.full(daemon)
    }
}

extension PoolFailureCase: CustomStringConvertible {
    var description: String { "\(point) of the pool, \(fault.rawValue)" }
}
