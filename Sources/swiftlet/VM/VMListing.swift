import CRI

/// What `vm list` shows. Its JSON form is part of the command's interface.
struct VMListing: Encodable, Equatable {
    struct Machine: Encodable, Equatable {
        /// The container's.
        var id: String
        var pod: String
        var podID: String
        var namespace: String
        var container: String
        /// Of the machine where it runs, else of the container.
        var state: String
        var vcpus: UInt32?
        /// Bytes.
        var memory: UInt64?
        var ips: [String]
        var image: String
        var createdAt: String?
        var domain: String?
        var uuid: String?
        var pid: Int64?
        var console: String?
        var vnc: String?
        fileprivate var age: String

        private enum CodingKeys: CodingKey {
            case id, pod, podID, namespace, container, state, vcpus, memory, ips, image, createdAt, domain, uuid, pid, console, vnc
        }
    }

    var machines: [Machine]

    /// The handler whose pods are virtual machines.
    static let handler = "vm"

    static func load(from daemon: Daemon, all: Bool) async throws -> VMListing {
        let pods = try await PodListing.load(from: daemon, all: all).pods.filter { $0.handler == handler }
        let running = pods.flatMap(\.containers).filter { $0.state == "running" }.map(\.id)
        // A machine that has just ended, or cannot be asked, is shown as its container is.
        let descriptions = await withTaskGroup(of: (String, OperatorDescribeMachineResponse?).self) { group in
            for id in running {
                group.addTask {
                    (id, try? await daemon.call(OperatorRPC.describeMachine, .with { $0.id = id }, "asking for machine \(Units.short(id))"))
                }
            }
            return await group.reduce(into: [String: OperatorDescribeMachineResponse]()) { $0[$1.0] = $1.1 }
        }
        return VMListing(pods, descriptions, now: Units.now())
    }

    /// Newest pods first; within a pod, the oldest container.
    ///
    /// - Parameter descriptions: of the machines that run, by the container's id.
    init(_ pods: [PodListing.Pod], _ descriptions: [String: OperatorDescribeMachineResponse], now: Int64) {
        machines = pods.flatMap { pod in
            pod.containers.map { container in
                let machine = descriptions[container.id]
                func text(_ path: KeyPath<OperatorDescribeMachineResponse, String>) -> String? {
                    machine.flatMap { $0[keyPath: path].isEmpty ? nil : $0[keyPath: path] }
                }
                return Machine(
                    id: container.id, pod: pod.name, podID: pod.id, namespace: pod.namespace, container: container.name,
                    state: machine?.state ?? container.state, vcpus: machine?.vcpus, memory: machine?.memory, ips: pod.ips,
                    image: container.image, createdAt: container.createdAt, domain: text(\.name), uuid: text(\.uuid),
                    pid: machine.flatMap { $0.pid > 0 ? $0.pid : nil }, console: text(\.console), vnc: text(\.vncSocket),
                    age: container.age(now: now))
            }
        }
    }

    var table: Table {
        var table = Table(["ID", "NAME", "STATE", "VCPUS", "MEMORY", "IP", "IMAGE", "CREATED"])
        table.rows = machines.map { machine in
            [
                Units.short(machine.id), "\(machine.namespace)/\(machine.pod)", machine.state, machine.vcpus.map(String.init) ?? "",
                machine.memory.map { "\($0 >> 20)Mi" } ?? "", machine.ips.joined(separator: ","), machine.image, machine.age,
            ]
        }
        return table
    }
}
