/// What `AgentMountSpec.type` says of a mount whose source the guest brings first. Any other type is "bind" or a filesystem's name.
///
/// Host and guest have one file for each kind; both switch over this enum, so that neither builds without a new one.
public enum AgentVolumeType: String, Sendable, CaseIterable {
    /// The read-only layers of an image.
    case image
    /// A tmpfs that the pod's containers share.
    case memory
    /// A part of the pod's share: files of the node.
    case share
}
