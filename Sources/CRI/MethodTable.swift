import SwiftProtobuf

/// The versions of the CRI under whose names the same methods are served. The messages of both are the same on the wire as far
/// as v1alpha2 has them: v1 only added fields.
public enum CRIVersion: String, CaseIterable, Sendable {
    case v1 = "runtime.v1"
    /// Spoken by kubelets before 1.23.
    case v1alpha2 = "runtime.v1alpha2"
}

/// One gRPC method: its names and, as types, its messages.
public struct RPCDescriptor<Request: Message & Sendable, Response: Message & Sendable>: Sendable {
    /// The service's name without its package: "RuntimeService".
    public let service: String
    /// "RunPodSandbox".
    public let name: String
    /// Whether the server answers with a stream of `Response` instead of one.
    public let streaming: Bool
    /// The package of a service that is not the CRI's.
    private let package: String?

    init(_ service: String, _ name: String, streaming: Bool = false, package: String? = nil) {
        self.service = service
        self.name = name
        self.streaming = streaming
        self.package = package
    }

    /// The path of the HTTP/2 request: "/runtime.v1.RuntimeService/Version". The version counts for the CRI's methods only.
    public func path(version: CRIVersion = .v1) -> String {
        "/\(package ?? version.rawValue).\(service)/\(name)"
    }
}

/// The methods of runtime.v1.RuntimeService.
public enum RuntimeRPC {
    private static let service = "RuntimeService"

    public static let version = RPCDescriptor<CRIVersionRequest, CRIVersionResponse>(service, "Version")
    public static let runPodSandbox = RPCDescriptor<CRIRunPodSandboxRequest, CRIRunPodSandboxResponse>(service, "RunPodSandbox")
    public static let stopPodSandbox = RPCDescriptor<CRIStopPodSandboxRequest, CRIStopPodSandboxResponse>(service, "StopPodSandbox")
    public static let removePodSandbox = RPCDescriptor<CRIRemovePodSandboxRequest, CRIRemovePodSandboxResponse>(
        service, "RemovePodSandbox")
    public static let podSandboxStatus = RPCDescriptor<CRIPodSandboxStatusRequest, CRIPodSandboxStatusResponse>(
        service, "PodSandboxStatus")
    public static let listPodSandbox = RPCDescriptor<CRIListPodSandboxRequest, CRIListPodSandboxResponse>(service, "ListPodSandbox")
    public static let streamPodSandboxes = RPCDescriptor<CRIStreamPodSandboxesRequest, CRIStreamPodSandboxesResponse>(
        service, "StreamPodSandboxes", streaming: true)
    public static let createContainer = RPCDescriptor<CRICreateContainerRequest, CRICreateContainerResponse>(service, "CreateContainer")
    public static let startContainer = RPCDescriptor<CRIStartContainerRequest, CRIStartContainerResponse>(service, "StartContainer")
    public static let stopContainer = RPCDescriptor<CRIStopContainerRequest, CRIStopContainerResponse>(service, "StopContainer")
    public static let removeContainer = RPCDescriptor<CRIRemoveContainerRequest, CRIRemoveContainerResponse>(service, "RemoveContainer")
    public static let listContainers = RPCDescriptor<CRIListContainersRequest, CRIListContainersResponse>(service, "ListContainers")
    public static let streamContainers = RPCDescriptor<CRIStreamContainersRequest, CRIStreamContainersResponse>(
        service, "StreamContainers", streaming: true)
    public static let containerStatus = RPCDescriptor<CRIContainerStatusRequest, CRIContainerStatusResponse>(service, "ContainerStatus")
    public static let updateContainerResources = RPCDescriptor<CRIUpdateContainerResourcesRequest, CRIUpdateContainerResourcesResponse>(
        service, "UpdateContainerResources")
    public static let reopenContainerLog = RPCDescriptor<CRIReopenContainerLogRequest, CRIReopenContainerLogResponse>(
        service, "ReopenContainerLog")
    public static let execSync = RPCDescriptor<CRIExecSyncRequest, CRIExecSyncResponse>(service, "ExecSync")
    public static let exec = RPCDescriptor<CRIExecRequest, CRIExecResponse>(service, "Exec")
    public static let attach = RPCDescriptor<CRIAttachRequest, CRIAttachResponse>(service, "Attach")
    public static let portForward = RPCDescriptor<CRIPortForwardRequest, CRIPortForwardResponse>(service, "PortForward")
    public static let containerStats = RPCDescriptor<CRIContainerStatsRequest, CRIContainerStatsResponse>(service, "ContainerStats")
    public static let listContainerStats = RPCDescriptor<CRIListContainerStatsRequest, CRIListContainerStatsResponse>(
        service, "ListContainerStats")
    public static let streamContainerStats = RPCDescriptor<CRIStreamContainerStatsRequest, CRIStreamContainerStatsResponse>(
        service, "StreamContainerStats", streaming: true)
    public static let podSandboxStats = RPCDescriptor<CRIPodSandboxStatsRequest, CRIPodSandboxStatsResponse>(service, "PodSandboxStats")
    public static let listPodSandboxStats = RPCDescriptor<CRIListPodSandboxStatsRequest, CRIListPodSandboxStatsResponse>(
        service, "ListPodSandboxStats")
    public static let streamPodSandboxStats = RPCDescriptor<CRIStreamPodSandboxStatsRequest, CRIStreamPodSandboxStatsResponse>(
        service, "StreamPodSandboxStats", streaming: true)
    public static let updateRuntimeConfig = RPCDescriptor<CRIUpdateRuntimeConfigRequest, CRIUpdateRuntimeConfigResponse>(
        service, "UpdateRuntimeConfig")
    public static let status = RPCDescriptor<CRIStatusRequest, CRIStatusResponse>(service, "Status")
    public static let checkpointContainer = RPCDescriptor<CRICheckpointContainerRequest, CRICheckpointContainerResponse>(
        service, "CheckpointContainer")
    public static let checkpointPod = RPCDescriptor<CRICheckpointPodRequest, CRICheckpointPodResponse>(service, "CheckpointPod")
    public static let restorePod = RPCDescriptor<CRIRestorePodRequest, CRIRestorePodResponse>(service, "RestorePod")
    public static let getContainerEvents = RPCDescriptor<CRIGetEventsRequest, CRIContainerEventResponse>(
        service, "GetContainerEvents", streaming: true)
    public static let listMetricDescriptors = RPCDescriptor<CRIListMetricDescriptorsRequest, CRIListMetricDescriptorsResponse>(
        service, "ListMetricDescriptors")
    public static let listPodSandboxMetrics = RPCDescriptor<CRIListPodSandboxMetricsRequest, CRIListPodSandboxMetricsResponse>(
        service, "ListPodSandboxMetrics")
    public static let streamPodSandboxMetrics = RPCDescriptor<CRIStreamPodSandboxMetricsRequest, CRIStreamPodSandboxMetricsResponse>(
        service, "StreamPodSandboxMetrics", streaming: true)
    public static let runtimeConfig = RPCDescriptor<CRIRuntimeConfigRequest, CRIRuntimeConfigResponse>(service, "RuntimeConfig")
    public static let updatePodSandboxResources = RPCDescriptor<CRIUpdatePodSandboxResourcesRequest, CRIUpdatePodSandboxResourcesResponse>(
        service, "UpdatePodSandboxResources")

    /// The 37 names, in the interface's order: what a server must answer, if only with UNIMPLEMENTED.
    public static let allNames = [
        version.name, runPodSandbox.name, stopPodSandbox.name, removePodSandbox.name, podSandboxStatus.name,
        listPodSandbox.name, streamPodSandboxes.name, createContainer.name, startContainer.name, stopContainer.name,
        removeContainer.name, listContainers.name, streamContainers.name, containerStatus.name, updateContainerResources.name,
        reopenContainerLog.name, execSync.name, exec.name, attach.name, portForward.name, containerStats.name,
        listContainerStats.name, streamContainerStats.name, podSandboxStats.name, listPodSandboxStats.name,
        streamPodSandboxStats.name, updateRuntimeConfig.name, status.name, checkpointContainer.name, checkpointPod.name,
        restorePod.name, getContainerEvents.name, listMetricDescriptors.name, listPodSandboxMetrics.name,
        streamPodSandboxMetrics.name, runtimeConfig.name, updatePodSandboxResources.name,
    ]
}

/// The methods of runtime.v1.ImageService.
public enum ImageRPC {
    private static let service = "ImageService"

    public static let listImages = RPCDescriptor<CRIListImagesRequest, CRIListImagesResponse>(service, "ListImages")
    public static let streamImages = RPCDescriptor<CRIStreamImagesRequest, CRIStreamImagesResponse>(
        service, "StreamImages", streaming: true)
    public static let imageStatus = RPCDescriptor<CRIImageStatusRequest, CRIImageStatusResponse>(service, "ImageStatus")
    public static let pullImage = RPCDescriptor<CRIPullImageRequest, CRIPullImageResponse>(service, "PullImage")
    public static let removeImage = RPCDescriptor<CRIRemoveImageRequest, CRIRemoveImageResponse>(service, "RemoveImage")
    public static let imageFsInfo = RPCDescriptor<CRIImageFsInfoRequest, CRIImageFsInfoResponse>(service, "ImageFsInfo")

    /// The 6 names, in the interface's order: what a server must answer, if only with UNIMPLEMENTED.
    public static let allNames = [
        listImages.name, streamImages.name, imageStatus.name, pullImage.name, removeImage.name, imageFsInfo.name,
    ]
}

/// The methods beyond the CRI that the operator's command asks of swiftletd, on the same socket.
public enum OperatorRPC {
    private static let (service, package) = ("Operator", "swiftlet.operator.v1")

    public static let loadImage = RPCDescriptor<OperatorLoadImageRequest, OperatorLoadImageResponse>(
        service, "LoadImage", package: package)
    public static let describeMachine = RPCDescriptor<OperatorDescribeMachineRequest, OperatorDescribeMachineResponse>(
        service, "DescribeMachine", package: package)
    public static let controlMachine = RPCDescriptor<OperatorControlMachineRequest, OperatorControlMachineResponse>(
        service, "ControlMachine", package: package)
    public static let screenshot = RPCDescriptor<OperatorScreenshotRequest, OperatorScreenshotResponse>(
        service, "Screenshot", package: package)
    public static let checkDisk = RPCDescriptor<OperatorCheckDiskRequest, OperatorCheckDiskResponse>(
        service, "CheckDisk", package: package)
    public static let addAuthorizedKeys = RPCDescriptor<OperatorAddAuthorizedKeysRequest, OperatorAddAuthorizedKeysResponse>(
        service, "AddAuthorizedKeys", package: package)

    public static let allNames = [
        loadImage.name, describeMachine.name, controlMachine.name, screenshot.name, checkDisk.name, addAuthorizedKeys.name,
    ]
}
