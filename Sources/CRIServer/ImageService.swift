import CRI
import Errors
import Foundation
import GRPC
import Images
import Runtime

extension CRIService {
    func addImageMethods(to table: inout MethodTable) {
        add(ImageRPC.listImages, to: &table, listImages)
        addStreaming(ImageRPC.streamImages, to: &table, streamImages)
        add(ImageRPC.imageStatus, to: &table, imageStatus)
        add(ImageRPC.pullImage, to: &table, pullImage)
        add(ImageRPC.removeImage, to: &table, removeImage)
        add(ImageRPC.imageFsInfo, to: &table, imageFsInfo)
    }

    @Sendable private func listImages(_ request: CRIListImagesRequest) async throws -> CRIListImagesResponse {
        let found = try await images(request.filter)
        return .with { $0.images = found }
    }

    @Sendable private func streamImages(_ request: CRIStreamImagesRequest, _ writer: ResponseWriter) async throws {
        let replies = try await images(request.filter).map { image in CRIStreamImagesResponse.with { $0.images = [image] } }
        try await ListReply.stream(replies, to: writer)
    }

    private func images(_ filter: CRIImageFilter) async throws -> [CRIImage] {
        let reference = filter.image.image
        return try await images.list(filter: reference.isEmpty ? nil : reference).map(Self.message)
    }

    @Sendable private func imageStatus(_ request: CRIImageStatusRequest) async throws -> CRIImageStatusResponse {
        let reference = try Self.reference(request.image, "ImageStatus")
        guard let image = try await images.status(reference) else { return CRIImageStatusResponse() }
        var response = CRIImageStatusResponse.with { $0.image = Self.message(image) }
        if request.verbose {
            let config = try await images.config(of: image.id)
            response.info = ["info": VerboseInfo.json(["imageSpec": ConfigMessage.value(config)])]
        }
        return response
    }

    @Sendable private func pullImage(_ request: CRIPullImageRequest) async throws -> CRIPullImageResponse {
        let reference = try Self.reference(request.image, "PullImage")
        let auth = request.auth
        let image = try await images.pull(
            reference,
            auth: request.hasAuth
                ? RegistryAuth(
                    username: auth.username, password: auth.password, auth: auth.auth, serverAddress: auth.serverAddress,
                    identityToken: auth.identityToken, registryToken: auth.registryToken) : nil)
        return .with { $0.imageRef = image.id }
    }

    @Sendable private func removeImage(_ request: CRIRemoveImageRequest) async throws -> CRIRemoveImageResponse {
        try await images.remove(Self.reference(request.image, "RemoveImage"))
        return CRIRemoveImageResponse()
    }

    @Sendable private func imageFsInfo(_ request: CRIImageFsInfoRequest) async throws -> CRIImageFsInfoResponse {
        let usage = try await images.filesystemUsage()
        let message = CRIFilesystemUsage.with {
            $0.timestamp = Int64(Date().timeIntervalSince1970 * 1e9)
            $0.fsID.mountpoint = usage.mountpoint
            $0.usedBytes.value = usage.usedBytes
            $0.inodesUsed.value = usage.inodesUsed
        }
        return .with {
            $0.imageFilesystems = [message]
            $0.containerFilesystems = [message]
        }
    }

    @Sendable func loadImage(_ request: OperatorLoadImageRequest) async throws -> OperatorLoadImageResponse {
        try Validation.absolutePath(request.path, "path")
        let format = DiskImage.Format(rawValue: request.diskFormat)
        guard format != nil || request.diskFormat.isEmpty else {
            throw SwiftletError(.invalidArgument, "disk_format \(quoted(request.diskFormat)) is neither raw nor qcow2")
        }
        let loaded = try await images.load(
            path: request.path, reference: request.reference.isEmpty ? nil : request.reference, diskFormat: format)
        return .with {
            $0.images = loaded.map { image in
                .with {
                    $0.id = image.id
                    $0.references = image.repoTags + image.repoDigests
                }
            }
        }
    }

    private static func reference(_ spec: CRIImageSpec, _ method: String) throws -> String {
        guard !spec.image.isEmpty else { throw SwiftletError(.invalidArgument, "\(method): image.image is missing") }
        try Validation.word(spec.image, "image.image")
        return spec.image
    }

    private static func message(_ image: Image) -> CRIImage {
        .with {
            $0.id = image.id
            $0.repoTags = image.repoTags
            $0.repoDigests = image.repoDigests
            $0.size = image.size
            if let uid = image.user.uid { $0.uid.value = uid }
            $0.username = image.user.username
            $0.spec.image = image.id
            $0.pinned = image.pinned
        }
    }
}
