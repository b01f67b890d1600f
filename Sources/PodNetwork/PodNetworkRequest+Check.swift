import Errors
import Linux
import Runtime

extension PodNetworkRequest {
    /// - Throws: `invalidArgument` for what must not reach a file name, an environment variable or a plugin.
    func validate() throws {
        guard CNINetworkList.isIdentifier(podID), podID.utf8.count <= 128 else {
            throw SwiftletError(
                .invalidArgument, "pod id \"\(podID.prefix(140))\": only letters, digits, '.', '_' and '-' are allowed, at most 128")
        }
        // CNI_ARGS is a list of K=V pairs separated by semicolons, without any escape.
        for (field, value) in [("name", podName), ("namespace", podNamespace), ("uid", podUID)] {
            guard value.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: "=") }) else {
                throw SwiftletError(.invalidArgument, "pod \(podID): its \(field) has a character that CNI arguments cannot carry")
            }
        }
        guard (1...15).contains(interfaceName.utf8.count), CNINetworkList.isIdentifier(interfaceName) else {
            throw SwiftletError(.invalidArgument, "pod \(podID): \"\(interfaceName)\" cannot name a network interface")
        }
        for mapping in portMappings {
            if let hostIP = mapping.hostIP, IPAddress(hostIP) == nil {
                throw SwiftletError(.invalidArgument, "pod \(podID): host IP \"\(hostIP)\" of a port mapping is no address")
            }
        }
    }
}
