import CRI
import GRPC

extension CRIService {
    func addRuntimeMethods(to table: inout MethodTable) {
        add(RuntimeRPC.version, to: &table, version)
        add(RuntimeRPC.status, to: &table, status)
        add(RuntimeRPC.runPodSandbox, to: &table, runPodSandbox)
        add(RuntimeRPC.stopPodSandbox, to: &table, stopPodSandbox)
        add(RuntimeRPC.removePodSandbox, to: &table, removePodSandbox)
        add(RuntimeRPC.podSandboxStatus, to: &table, podSandboxStatus)
        addEncoded(RuntimeRPC.listPodSandbox, to: &table, listPodSandbox)
        add(RuntimeRPC.createContainer, to: &table, createContainer)
        add(RuntimeRPC.startContainer, to: &table, startContainer)
        add(RuntimeRPC.stopContainer, to: &table, stopContainer)
        add(RuntimeRPC.removeContainer, to: &table, removeContainer)
        add(RuntimeRPC.containerStatus, to: &table, containerStatus)
        addEncoded(RuntimeRPC.listContainers, to: &table, listContainers)
        add(RuntimeRPC.execSync, to: &table, execSync)
        add(RuntimeRPC.exec, to: &table, exec)
        add(RuntimeRPC.attach, to: &table, attach)
        add(RuntimeRPC.portForward, to: &table, portForward)
        add(RuntimeRPC.updateContainerResources, to: &table, updateContainerResources)
        add(RuntimeRPC.updatePodSandboxResources, to: &table, updatePodSandboxResources)
        add(RuntimeRPC.reopenContainerLog, to: &table, reopenContainerLog)
        addStreaming(RuntimeRPC.streamPodSandboxes, to: &table, streamPodSandboxes)
        addStreaming(RuntimeRPC.streamContainers, to: &table, streamContainers)
        addObservation(to: &table)
        add(RuntimeRPC.runtimeConfig, to: &table, runtimeConfig)
        add(RuntimeRPC.updateRuntimeConfig, to: &table, updateRuntimeConfig)
        addStreaming(RuntimeRPC.getContainerEvents, to: &table, getContainerEvents)
    }

    private func addObservation(to table: inout MethodTable) {
        add(RuntimeRPC.containerStats, to: &table, containerStats)
        add(RuntimeRPC.listContainerStats, to: &table, listContainerStats)
        addStreaming(RuntimeRPC.streamContainerStats, to: &table, streamContainerStats)
        add(RuntimeRPC.podSandboxStats, to: &table, podSandboxStats)
        add(RuntimeRPC.listPodSandboxStats, to: &table, listPodSandboxStats)
        addStreaming(RuntimeRPC.streamPodSandboxStats, to: &table, streamPodSandboxStats)
        add(RuntimeRPC.listMetricDescriptors, to: &table, listMetricDescriptors)
        add(RuntimeRPC.listPodSandboxMetrics, to: &table, listPodSandboxMetrics)
        addStreaming(RuntimeRPC.streamPodSandboxMetrics, to: &table, streamPodSandboxMetrics)
    }
}
