import Machines
import Runtime

extension MachineDescription {
    /// - Parameters:
    ///   - machine: as libvirt sees it now.
    ///   - spec: what it was started as; nil for one that grows.
    package init(_ machine: Machine, _ spec: MachineSpec? = nil, console: String) {
        self.init(
            name: machine.name, uuid: machine.id.description, state: State(machine.state), process: machine.process?.pid,
            vcpus: spec?.shape.vcpus, memory: spec?.shape.memoryBytes, console: console, vncSocket: spec?.display?.vncSocket)
    }
}

extension MachineDescription.State {
    package init(_ state: Machine.State) {
        switch state {
        case .running: self = .running
        case .paused: self = .paused
        case .diskFull: self = .diskFull
        case .stopping: self = .stopping
        case .crashed: self = .crashed
        case .other: self = .unknown
        }
    }
}
