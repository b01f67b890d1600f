import CRI
import Errors

/// A pod's virtual machine that a person has named.
struct VMTarget: Sendable {
    /// As it was named.
    let name: String
    let target: Target
    let description: OperatorDescribeMachineResponse

    /// - Throws: `SwiftletError` `notFound` for a wrong name, `failedPrecondition` for a machine that does not run, `invalidArgument` for a
    ///   pod that is no virtual machine.
    static func find(_ name: String, _ daemon: Daemon, withXML: Bool = false) async throws -> VMTarget {
        let target = try await Targets.load(from: daemon).resolve(name)
        let description = try await daemon.call(
            OperatorRPC.describeMachine,
            .with {
                $0.id = target.id
                $0.withXml = withXML
            }, "asking for the machine of \(name)", within: Daemon.Patience.end)
        return VMTarget(name: name, target: target, description: description)
    }

    /// The container that the machine is.
    ///
    /// - Throws: `SwiftletError` `invalidArgument` for a machine with containers in it.
    var container: String {
        get throws {
            guard !description.containerID.isEmpty else {
                throw SwiftletError(
                    .invalidArgument,
                    "\(name): its containers run in a machine and are none themselves; see swiftlet exec and swiftlet attach")
            }
            return description.containerID
        }
    }
}
