import CRI
import Errors
import FoundationEssentials

/// swiftletd itself.
enum DaemonChecks {
    /// The running daemon's answers; nil where it has none.
    struct Report: Sendable {
        var findings: [Finding]
        var kernel: String?
        var initramfs: String?
    }

    static func ask(_ daemon: Daemon) async -> Report {
        do {
            let version = try await daemon.call(RuntimeRPC.version, CRIVersionRequest(), "asking for the version")
            let status = try await daemon.call(RuntimeRPC.status, .with { $0.verbose = true }, "asking for the status")
            return report(version, status, endpoint: "\(daemon.endpoint)")
        } catch let error as SwiftletError where error.code == .unavailable {
            return Report(findings: [
                .fail(
                    "swiftletd", "none answers at \(daemon.endpoint)",
                    "start swiftletd; if it listens elsewhere, name its socket with --endpoint or SWIFTLET_ENDPOINT")
            ])
        } catch {
            return Report(findings: [.fail("swiftletd", "\(error)", "look at swiftletd's log")])
        }
    }

    static func report(_ version: CRIVersionResponse, _ status: CRIStatusResponse, endpoint: String) -> Report {
        var findings = [Finding.ok("swiftletd", "\(version.runtimeName) \(version.runtimeVersion) at \(endpoint)")]
        for condition in status.status.conditions {
            let reason = [condition.reason, condition.message].filter { !$0.isEmpty }.joined(separator: ": ")
            findings.append(
                condition.status
                    ? .ok(condition.type, reason.isEmpty ? "true" : reason)
                    : .fail(condition.type, reason.isEmpty ? "false" : reason, "see the checks above and swiftletd's log"))
        }
        findings += pools(status.info)
        return Report(findings: findings, kernel: path("kernel", in: status.info), initramfs: path("initramfs", in: status.info))
    }

    /// Machines that wait for pods, as verbose status tells of them.
    private struct Pools: Decodable {
        struct Shape: Decodable {
            var memoryBytes: UInt64
            var vcpus: Int
            var size: Int
            var waiting: Int
            var hits: Int
            var obstacle: String?
        }

        struct Pool: Decodable {
            var shapes: [Shape]
        }

        var pools: [String: Pool]
    }

    /// How many machines wait for pods, by their sizes, and why no more do.
    private static func pools(_ info: [String: String]) -> [Finding] {
        let node = info["swiftlet"].flatMap { try? JSONDecoder().decode(Pools.self, from: Data($0.utf8)) }
        return (node?.pools ?? [:]).sorted { $0.key < $1.key }.flatMap { name, pool in
            pool.shapes.map { shape in
                let size = "\(shape.memoryBytes >> 20) MiB and \(shape.vcpus) vCPU\(shape.vcpus == 1 ? "" : "s")"
                let text = "\(name): \(shape.waiting) of \(shape.size) machines of \(size) wait; \(shape.hits) pods got one"
                guard let obstacle = shape.obstacle else { return .ok("pool", text) }
                return .warn("pool", "\(text); \(obstacle)", "pods boot machines of their own meanwhile, which takes longer")
            }
        }
    }

    /// An absolute path that the daemon's verbose status gives, at its top or at the top of a JSON object in it.
    private static func path(_ key: String, in info: [String: String]) -> String? {
        var candidates = [info[key]]
        for value in info.values {
            candidates.append((try? JSONDecoder().decode([String: Loose].self, from: Data(value.utf8)))?[key]?.text)
        }
        return candidates.compactMap(\.self).first { $0.hasPrefix("/") }
    }

    /// A JSON value of which only text counts.
    private struct Loose: Decodable {
        var text: String?

        init(from decoder: any Decoder) throws {
            text = try? decoder.singleValueContainer().decode(String.self)
        }
    }
}
