import Logs
import Runtime

/// Feeds a container's output to its log.
struct ContainerLogSink: OutputSink {
    let log: ContainerLog

    func received() async -> OutputOffsets {
        let offsets = await log.received()
        return OutputOffsets(stdout: offsets.stdout, stderr: offsets.stderr)
    }

    func take(_ bytes: [UInt8], from source: StandardStream) async throws -> OutputOffsets {
        let offsets = try await log.append(bytes, from: source.logSource)
        return OutputOffsets(stdout: offsets.stdout, stderr: offsets.stderr)
    }

    func flush() async throws -> OutputOffsets {
        let offsets = try await log.flush()
        return OutputOffsets(stdout: offsets.stdout, stderr: offsets.stderr)
    }

    func finish(_ source: StandardStream) async throws -> OutputOffsets {
        let offsets = try await log.finish(source.logSource)
        return OutputOffsets(stdout: offsets.stdout, stderr: offsets.stderr)
    }
}

extension StandardStream {
    fileprivate var logSource: LogSource {
        switch self {
        case .stdout: .stdout
        case .stderr: .stderr
        }
    }
}
