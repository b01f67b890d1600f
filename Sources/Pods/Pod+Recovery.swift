import Errors
import Glibc
import Logging
import Logs
import State

extension Pod {
    /// Takes in the containers of an earlier daemon. Called once, before anything else.
    func restore(_ snapshots: [ContainerSnapshot]) {
        for snapshot in snapshots {
            let container = Container(snapshot, ledger: Ledger(owner: snapshot.id, database: context.store.database))
            containers[snapshot.id] = container
            context.snapshots.publish(snapshot)
        }
    }

    /// Goes on with the logs and exits of the containers that an earlier daemon left.
    func resumeContainers() async {
        guard let machine else { return }
        for container in containers.values {
            switch container.state {
            case .created, .running: resume(container, machine)
            case .exited, .removed: break
            }
        }
    }

    private func resume(_ container: Container, _ machine: any SandboxMachine) {
        do {
            container.log = try openLog(container)
            startPump(container, machine)
        } catch {
            logger.error("log not reopened", metadata: ["container": "\(container.id)", "error": "\(error)"])
        }
        if container.isRunning { watchExit(container, machine) }
    }

    /// Ends what runs, within the deadline, so that exit codes and last lines arrive before the machine goes.
    func endContainers() async {
        let running = containers.values.filter(\.isRunning).map(\.id)
        if let machine, !running.isEmpty {
            let limit = context.deadlines.sandboxStop
            try? await withDeadline(limit, "end containers") {
                await withTaskGroup(of: Void.self) { group in
                    for id in running {
                        group.addTask {
                            try? await machine.signal(id, 9, all: true)
                            await self.waitForRecordedExit(id)
                        }
                    }
                }
            }
        }
        if let machine { try? await withDeadline(.seconds(2), "shut down") { await machine.requestShutdown() } }
        for container in containers.values { await markLost(container, "the pod sandbox was stopped") }
    }

    /// Records the end of a container whose machine is gone.
    func markLost(_ container: Container, _ message: String) async {
        container.pump?.cancel()
        container.exitWatch?.cancel()
        switch container.state {
        case .created, .running:
            await record(container, exit: ContainerExit(code: 137, finishedAt: Clock.now(), reason: "Error", message: message))
        case .exited, .removed: break
        }
    }

    func positionPath(of container: Container) -> String {
        "\(context.stateDirectory)/\(container.id).position"
    }

    func removePosition(of container: Container) {
        unlink(positionPath(of: container))
    }
}
