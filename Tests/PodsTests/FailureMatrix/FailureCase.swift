import Errors
import Support
import Testing

@testable import MicroVMRuntime
@testable import Pods
@testable import Runtime

/// What the client, or the node, does after a fault.
enum Aftermath: String, CaseIterable, Sendable {
    case stop = "Stop"
    case remove = "Remove"
    case retry
    case restart
}

/// One fault at one point of a pod's life, and what follows.
struct FailureCase: Sendable {
    let point: String
    let fault: Fault
    let aftermath: Aftermath
    /// Whether the pod's machine comes out of the pool.
    var isPooled = false

    /// One machine, and none made after it.
    private static let pool: PoolConfiguration = {
        var pool = PoolConfiguration(size: 1, drains: true)
        pool.rest = .seconds(3600)
        return pool
    }()

    private static let limit = Duration.seconds(60)

    private static func spec(attempt: UInt32 = 0) -> SandboxSpec {
        SandboxSpec(metadata: .init(name: "pod", uid: "uid", namespace: "default", attempt: attempt))
    }

    /// The points of a start and a stop without a fault.
    static func points(on ground: MatrixGround, isPooled: Bool = false) async throws -> [String] {
        let node = try MatrixNode(ground, number: 0)
        defer { node.remove() }
        let injector = Injector()
        let daemon = try await Self.daemon(on: node, .error, isPooled)
        var failure: (any Error)?
        do {
            try await injector.live {
                let id = try await daemon.registry.runSandbox(spec())
                try await daemon.registry.removeSandbox(id)
            }
        } catch {
            failure = error
        }
        await daemon.close()
        if let failure { throw failure }
        let left = try await node.leaks()
        guard left.isEmpty else { throw SwiftletError(.internal, "a pod without a fault leaves \(left)") }
        return injector.points
    }

    /// A daemon whose pool is full, where it has one.
    private static func daemon(on node: MatrixNode, _ fault: Fault, _ isPooled: Bool) async throws -> MatrixNode.Daemon {
        guard isPooled else { return try await node.daemon(fault) }
        let daemon = try await node.daemon(fault, pool: pool)
        try await daemon.registry.recover()
        try await Support.eventually("a machine waits") { daemon.handler.pool?.waiting == 1 }
        return daemon
    }

    /// - Returns: what the call at which the fault happened answered.
    func run(on ground: MatrixGround, number: Int) async throws -> String {
        let node = try MatrixNode(ground, number: number)
        let injector = Injector(point, fault)
        let first = try await Self.daemon(on: node, fault, isPooled)
        var second: MatrixNode.Daemon?
        let result: Result<String, any Error>
        do {
            let (answer, id) = try await fail(first, injector)
            if fault == .kill || aftermath == .restart {
                injector.kill()
                try await eventually("nothing of the dead daemon goes on") { injector.isStill }
                second = try await restart(node)
            }
            try await follow(second ?? first, id, node, injector)
            let left = try await leaks(node)
            #expect(left.isEmpty, "\(self)")
            result = .success(left.isEmpty ? answer : "leaves \(left)")
        } catch {
            result = .failure(error)
        }
        injector.end()
        await first.close()
        await second?.close()
        node.remove()
        return try result.get()
    }

    /// Runs the call that the fault is to happen in.
    ///
    /// - Returns: what it answered, and the pod's id.
    private func fail(_ daemon: MatrixNode.Daemon, _ injector: Injector) async throws -> (String, String) {
        let registry = daemon.registry
        let pod = point.contains(" release ") ? try await injector.live { try await start(0, registry) } : ""
        let call = Task {
            try await injector.live {
                if pod.isEmpty { _ = try await registry.runSandbox(Self.spec()) } else { try await registry.stopSandbox(pod) }
            }
        }
        try await eventually("the fault happens") { injector.isHit }
        let id = pod.isEmpty ? registry.sandboxes().first?.snapshot.id ?? "" : pod
        guard fault != .kill else { return ("", id) }
        if fault == .hang {
            // While it hangs; what cannot be released yet is named.
            try? await injector.live {
                switch aftermath {
                case .stop: try await registry.stopSandbox(id)
                case .remove: try await registry.removeSandbox(id)
                case .retry, .restart: break
                }
            }
        }
        let result = await call.result
        if aftermath != .restart { injector.letGo() }
        switch result {
        case .success: return ("succeeds", id)
        case .failure(let error): return ((error as? SwiftletError)?.code.rawValue ?? "\(error)", id)
        }
    }

    /// Starts a pod; again, where a busy machine makes it run into a deadline that is short for the sake of the hangs.
    private func start(_ attempt: UInt32, _ registry: PodRegistry) async throws -> String {
        let limit = ContinuousClock.now + Self.limit
        var attempt = attempt
        while true {
            do {
                return try await registry.runSandbox(Self.spec(attempt: attempt))
            } catch let error as SwiftletError where error.code == .deadlineExceeded && fault == .hang && ContinuousClock.now < limit {
                attempt += 1
            }
        }
    }

    /// What is left of pods. A machine of the pool that was thrown away is released behind the start that could not use it.
    private func leaks(_ node: MatrixNode) async throws -> [String] {
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            let left = try await node.leaks()
            guard isPooled, !left.isEmpty, ContinuousClock.now < deadline else { return left }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func restart(_ node: MatrixNode) async throws -> MatrixNode.Daemon {
        let daemon = try await node.daemon(fault)
        try await daemon.registry.recover()
        await daemon.registry.recovered()
        return daemon
    }

    /// What follows the fault. Nothing is left of the pod then.
    private func follow(_ daemon: MatrixNode.Daemon, _ id: String, _ node: MatrixNode, _ injector: Injector) async throws {
        let registry = daemon.registry
        if isPooled { await registry.closePools() }
        switch aftermath {
        case .stop:
            try await registry.stopSandbox(id)
            #expect(try await leaks(node).isEmpty, "\(self): after Stop")
        case .remove: break
        case .retry:
            // As the kubelet does: the failed pod stays until its garbage collection, and a new one takes its place.
            let next = try await start(1, registry)
            #expect(try registry.sandbox(next).isReady, "\(self)")
            try await registry.removeSandbox(next)
        case .restart:
            // Without a call, unless the start went on with another machine: a restarted daemon releases by itself.
            if try isPooled && registry.sandboxes().contains(where: \.snapshot.isReady) { try await registry.removeSandbox(id) }
            #expect(try await leaks(node).isEmpty, "\(self): after the restart")
        }
        try await registry.removeSandbox(id)
        #expect(registry.sandboxes().allSatisfy { $0.snapshot.id != id }, "\(self)")
    }

    private func eventually(_ what: String, _ condition: () -> Bool) async throws {
        let deadline = ContinuousClock.now + Self.limit
        while !condition() {
            guard ContinuousClock.now < deadline else { throw SwiftletError(.deadlineExceeded, "\(self): not within a minute: \(what)") }
            try await Task.sleep(for: .milliseconds(1))
        }
    }
}

extension FailureCase: CustomStringConvertible {
    var description: String { "\(point), \(fault.rawValue), \(aftermath.rawValue)" }
}
