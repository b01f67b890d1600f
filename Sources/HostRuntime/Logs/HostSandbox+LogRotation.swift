import Concurrency
import Errors
import Logging
import Logs
import Runtime

/// Rotation by size of logs that conmon writes: their files are looked at each second, so that one may be larger by what is written meanwhile.
extension HostSandbox {
    private static let look = Duration.seconds(1)

    /// What the last look has found, by container.
    private struct Looks {
        var renamed: Set<String> = []
        var failing: Set<String> = []
    }

    /// Until the sandbox is closed.
    func rotateLogs() {
        guard let rotation = handler.configuration.logRotation else { return }
        let task = Task { [weak self] in
            var looks = Looks()
            while (try? await Task.sleep(for: Self.look)) != nil {
                guard let self else { return }
                await look(rotation, &looks)
            }
        }
        let former = rotating.withLock { rotating in
            defer { rotating = task }
            return rotating
        }
        former?.cancel()
    }

    private func look(_ rotation: LogRotation, _ looks: inout Looks) async {
        let running = records.filter { $0.phase == .started && $0.end == nil && !$0.logPath.isEmpty }
        guard !running.isEmpty else { return }
        let directory = context.spec.logDirectory
        let states = await OwnThread.answer {
            running.map { record in
                (record.container, Self.log(record, directory), Result { try Self.log(record, directory).state(rotation) })
            }
        }
        var renamed: Set<String> = []
        for (id, log, state) in states {
            do {
                switch try state.get() {
                case .hasRoom: break
                case .isFull: try await rotate(id, log, rotation)
                case .isRenamed:
                    // The kubelet has it opened anew at once; a daemon that was killed in between has not.
                    if looks.renamed.contains(id) { try await reopenLog(of: id) } else { renamed.insert(id) }
                }
                looks.failing.remove(id)
            } catch {
                guard looks.failing.insert(id).inserted else { continue }
                logger.warning("a log is not rotated", metadata: ["container": "\(id)", "error": "\(error)"])
            }
        }
        looks.renamed = renamed
        looks.failing.formIntersection(running.map(\.container))
    }

    private static func log(_ record: HostRecord, _ directory: String) -> WrittenLog {
        WrittenLog(directory: directory, path: String(record.logPath.dropFirst(directory.count + 1)))
    }

    private func rotate(_ id: String, _ log: WrittenLog, _ rotation: LogRotation) async throws {
        guard try await OwnThread.run({ try log.rename() }) else { return }
        try await reopenLog(of: id)
        try await OwnThread.run { try log.removeOldest(rotation) }
    }
}
