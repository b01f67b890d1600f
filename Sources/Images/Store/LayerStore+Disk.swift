import Concurrency
import Errors
import Foundation
import Runtime
import State

extension LayerStore {
    /// Takes in a disk that `write` puts into a new file. The caller holds its key from then on, and releases it.
    ///
    /// - Parameters:
    ///   - format: what it is said to be; nil: what it looks like.
    ///   - digest: what the file must have; nil: any.
    func addDisk(
        saidToBe format: DiskImage.Format?, digest: Digest? = nil, name: String,
        _ write: @escaping @Sendable (_ path: String, BlockingCall) throws -> DiskFile
    ) async throws -> LayerRecord {
        let temporary = partialPath("disk")
        do {
            let (file, geometry) = try await work.run(name) { [inspector] call in
                let file = try write(temporary, call)
                guard digest == nil || digest == file.digest else {
                    throw SwiftletError(.dataLoss, "the content has the digest \(file.digest)")
                }
                return (file, try inspector.inspect(temporary, saidToBe: format, isCancelled: { call.isCancelled }))
            }
            let key = file.key(geometry.format).description
            claims.hold([key])
            do {
                await claims.settled(key)
                let record = LayerRecord(
                    diffID: key, filesystem: geometry.format.rawValue, sizeBytes: Int64(file.size), entries: 1,
                    digest: file.digest.description, virtualSize: Int64(geometry.virtualSize))
                try await uncancelled { try await publish(record, temporary) }
                return record
            } catch {
                claims.release([key])
                throw error
            }
        } catch {
            await work.discard(temporary)
            throw SwiftletError.wrap(error, name)
        }
    }

    /// - Throws: `SwiftletError(.dataLoss)` for a format that is none.
    func disk(of record: LayerRecord) throws -> DiskImage {
        guard let format = DiskImage.Format(rawValue: record.filesystem) else {
            throw SwiftletError(.dataLoss, "disk record cannot be read: its format is unknown")
        }
        return DiskImage(
            path: path(of: record), format: format, virtualSize: UInt64(record.virtualSize), digest: record.digest)
    }
}
