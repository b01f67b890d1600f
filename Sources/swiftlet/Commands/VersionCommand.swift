import ArgumentParser
import CRI
import GRPC
import SwiftletVersion

struct VersionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Prints the versions of this command and of swiftletd.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var format: OutputOptions

    private struct Versions: Encodable {
        struct Server: Encodable {
            var name: String
            var version: String
            var api: String
            var endpoint: String
        }
        var client: String
        var server: Server?
    }

    func run() async throws {
        let daemon = try connection.daemon()
        var versions = Versions(client: swiftletVersion, server: nil)
        // This command's own version is worth printing without a daemon too.
        let reply: Result<CRIVersionResponse, any Error>
        do {
            reply = .success(try await daemon.call(RuntimeRPC.version, CRIVersionRequest(), "asking for the version"))
        } catch {
            reply = .failure(error)
        }
        if case .success(let server) = reply {
            versions.server = .init(
                name: server.runtimeName, version: server.runtimeVersion, api: server.runtimeApiVersion, endpoint: "\(daemon.endpoint)")
        }
        switch format.output {
        case .json: Terminal.output(try JSONText.of(versions))
        case .text:
            Terminal.output("swiftlet   \(versions.client)\n")
            if let server = versions.server {
                Terminal.output(Terminal.printable("\(server.name)  \(server.version) (CRI \(server.api), \(server.endpoint))") + "\n")
            }
        }
        _ = try reply.get()
    }
}
