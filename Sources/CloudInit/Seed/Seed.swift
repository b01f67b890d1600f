import Errors
import Runtime
import YAML

/// A disk that cloud-init, cloudbase-init or Ignition's kin read at a guest's boot.
public struct Seed: Sendable, Equatable {
    public struct File: Sendable, Equatable {
        /// Relative to the disk's root.
        public var path: String
        public var contents: [UInt8]
    }

    /// Of one file, and of all.
    public static let mostFileBytes = 8 << 20
    public static let mostBytes = 16 << 20

    /// What the guest looks for: "cidata" or "config-2".
    public let volumeID: String
    /// Sorted by their paths.
    public let files: [File]

    /// - Throws: `.invalidArgument` naming the file that is too large.
    public init(_ request: SeedRequest, format: SeedFormat) throws {
        let script = BootScript(request)
        let userData = request.data.userData.bytes(mountScript: script.mounts)
        let vendorData = Array(script.boothook.utf8)
        var files: [File] = []
        switch format {
        case .noCloud:
            volumeID = "cidata"
            files.append(File(path: "meta-data", contents: try MetaData(request).noCloud()))
            files.append(File(path: "user-data", contents: userData))
            files.append(File(path: "vendor-data", contents: vendorData))
            if let network = NetworkConfig(request) {
                files.append(File(path: "network-config", contents: Array(YAMLWriter.write(network.document).utf8)))
            }
        case .configDrive:
            volumeID = "config-2"
            let directory = "openstack/latest/"
            files.append(File(path: directory + "meta_data.json", contents: try MetaData(request).configDrive()))
            files.append(File(path: directory + "user_data", contents: userData))
            files.append(File(path: directory + "vendor_data.json", contents: try VendorData.json(script.boothook)))
            if let network = NetworkData(request) {
                files.append(File(path: directory + "network_data.json", contents: try network.json()))
            }
        }
        for file in files where file.contents.count > Self.mostFileBytes {
            throw SwiftletError(
                .invalidArgument, "\(file.path) has \(file.contents.count) bytes; a seed's file has at most \(Self.mostFileBytes)")
        }
        let bytes = files.reduce(0) { $0 + $1.contents.count }
        guard bytes <= Self.mostBytes else {
            throw SwiftletError(.invalidArgument, "the seed has \(bytes) bytes of files; it may have \(Self.mostBytes)")
        }
        self.files = files.sorted { $0.path < $1.path }
    }

    /// Writes the disk's image. Blocks.
    ///
    /// - Parameter mode: permission bits: it holds the pod's secrets.
    public func write(to path: String, mode: UInt32 = 0o600) throws {
        try ISOImage.write(self, to: path, mode: mode)
    }
}
