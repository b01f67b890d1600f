import Errors
import Foundation
import Runtime

/// Directories that the daemon makes and takes away.
package enum Directory {
    /// Makes the directory with its parents. Idempotent; the mode of an existing one is set.
    package static func create(_ path: String, mode: Int) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        } catch {
            throw SwiftletError(.internal, "make directory \(path)", cause: error)
        }
    }

    /// Removes the directory with all that is in it. Idempotent; links are removed, not followed.
    package static func remove(_ path: String) throws {
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch CocoaError.fileNoSuchFile {
            return
        } catch {
            throw SwiftletError(.internal, "remove directory \(path)", cause: error)
        }
    }
}
