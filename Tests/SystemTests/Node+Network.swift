import Foundation
import Glibc

extension Node {
    /// The node's CNI configuration: Debian's bridge, host-local and portmap plug-ins, unless the options have another.
    nonisolated func writeNetwork(_ options: Options) throws {
        let second = options.hasSecondInterface ? ", " + secondInterface : ""
        let (range, route) = options.hasIPv6 ? (#", [{"subnet": "fd88::/64"}]"#, #", {"dst": "::/0"}"#) : ("", "")
        let text =
            options.cni ?? """
                {"cniVersion": "1.0.0", "name": "\(name)", "plugins": [
                  {"type": "bridge", "bridge": "sw-\(name)", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                   "ipam": {"type": "host-local", "dataDir": "\(root)/ipam", "ranges": [[{"subnet": "10.88.0.0/16"}]\(range)],
                            "routes": [{"dst": "0.0.0.0/0"}\(route)]}},
                  {"type": "portmap", "capabilities": {"portMappings": true}}\(second)
                ]}
                """
        try text.write(toFile: root + "/net.d/10-test.conflist", atomically: true, encoding: .utf8)
        guard options.hasSecondInterface else { return }
        try FileManager.default.createDirectory(atPath: root + "/cni", withIntermediateDirectories: true)
        try Self.delegate.write(toFile: root + "/cni/delegate", atomically: true, encoding: .utf8)
        chmod(root + "/cni/delegate", 0o755)
    }

    private nonisolated var secondInterface: String {
        """
        {"type": "delegate", "interface": "net1", "delegate": {"type": "bridge", "bridge": "s2-\(name)", "isGateway": true, "mtu": 1400,
         "ipam": {"type": "host-local", "dataDir": "\(root)/ipam2", "ranges": [[{"subnet": "10.89.0.0/16"}]],
                  "routes": [{"dst": "10.90.0.0/16"}]}}}
        """
    }

    /// A plug-in that has another one of Debian's make one more interface, as multi-network plug-ins do.
    private static let delegate = """
        #!/usr/bin/python3
        import json, os, subprocess, sys
        own = json.load(sys.stdin)
        command = os.environ["CNI_COMMAND"]
        if command not in ("ADD", "DEL"):
            sys.exit(0)
        other = dict(own["delegate"], cniVersion=own["cniVersion"], name=own["name"] + "-second")
        call = subprocess.run(["/usr/lib/cni/" + other["type"]], input=json.dumps(other), stdout=subprocess.PIPE, text=True,
                              env=dict(os.environ, CNI_IFNAME=own["interface"]))
        if call.returncode or command == "DEL":
            sys.stdout.write(call.stdout)
            sys.exit(call.returncode)
        result, made = own["prevResult"], json.loads(call.stdout)
        for address in made["ips"]:
            address["interface"] += len(result["interfaces"])
        result["interfaces"] += made["interfaces"]
        result["ips"] += made["ips"]
        result["routes"] = result.get("routes", []) + made.get("routes", [])
        json.dump(result, sys.stdout)

        """
}
