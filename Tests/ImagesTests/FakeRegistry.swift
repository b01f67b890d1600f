import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Support
import Synchronization

/// A registry that does what it is told, wrong things too. For what docker-registry cannot be made to do.
final class FakeRegistry: Sendable {
    struct Answer: Sendable {
        var status = HTTPResponseStatus.ok
        var headers: [(String, String)] = []
        var body = Data()
        /// Length to announce instead of the body's.
        var announcedLength: Int?
        /// What to do after the body, instead of ending the answer.
        var ending = Ending.whole

        enum Ending: Sendable {
            case whole, close, hang
            /// One byte more each time, until the announced length.
            case trickle(TimeAmount)
        }

        static func json(_ text: String, status: HTTPResponseStatus = .ok, headers: [(String, String)] = []) -> Answer {
            Answer(status: status, headers: headers + [("content-type", "application/json")], body: Data(text.utf8))
        }
    }

    struct Request: Sendable {
        var method: String
        var path: String
        var headers: [String: String]
        var body: String
        /// How many requests for this path came before.
        var number: Int
    }

    typealias Script = @Sendable (Request) -> Answer?

    private struct State {
        var files: [String: (type: String, bytes: Data)] = [:]
        var requests: [Request] = []
        var script: Script = { _ in nil }
    }

    let host: String
    private let channel: any Channel
    private let state: Mutex<State>

    private init(channel: any Channel, state: consuming sending Mutex<State>) {
        self.channel = channel
        self.state = state
        host = "127.0.0.1:\(channel.localAddress?.port ?? 0)"
    }

    /// - Parameter tls: of the server; nil: plain http.
    static func start(tls: NIOSSLContext? = nil) async throws -> FakeRegistry {
        let box = Handlers()
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(Connection(box))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let registry = FakeRegistry(channel: channel, state: Mutex(State()))
        box.registry.withLock { $0 = registry }
        return registry
    }

    func stop() async throws {
        try await channel.close()
    }

    /// Serves an image as a real registry would.
    func add(_ image: BuiltImage, _ repository: String, tag: String = "latest") {
        state.withLock { state in
            for blob in image.blobs { state.files["/v2/\(repository)/blobs/\(blob.digest)"] = ("application/octet-stream", blob.bytes) }
            for reference in [tag, image.manifest.digest] {
                state.files["/v2/\(repository)/manifests/\(reference)"] = (image.manifest.mediaType, image.manifest.bytes)
            }
        }
    }

    /// Asked before the files; nil leaves the request to them.
    func script(_ script: @escaping Script) {
        state.withLock { $0.script = script }
    }

    /// Requests so far whose path contains `part`.
    func count(_ part: String) -> Int {
        state.withLock { $0.requests.count { $0.path.contains(part) } }
    }

    var requests: [Request] { state.withLock(\.requests) }

    fileprivate func answer(_ request: Request) -> Answer {
        let (request, script) = state.withLock { state in
            var request = request
            request.number = state.requests.count { $0.path == request.path }
            state.requests.append(request)
            return (request, state.script)
        }
        if let answer = script(request) { return answer }
        guard let file = state.withLock({ $0.files[request.path] }) else {
            return .json(#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#, status: .notFound)
        }
        if let range = request.headers["range"], let start = range.firstMatch(of: /bytes=(\d+)-/).flatMap({ Int($0.1) }),
            start < file.bytes.count
        {
            return Answer(
                status: .partialContent, headers: [("content-range", "bytes \(start)-\(file.bytes.count - 1)/\(file.bytes.count)")],
                body: Data(file.bytes[start...]))
        }
        return Answer(headers: [("content-type", file.type)], body: file.bytes)
    }
}

private final class Handlers: Sendable {
    let registry = Mutex<FakeRegistry?>(nil)
}

private final class Connection: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let handlers: Handlers
    private var head: HTTPRequestHead?
    private var body = ""

    init(_ handlers: Handlers) { self.handlers = handlers }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body = ""
        case .body(let buffer): body += String(buffer: buffer)
        case .end:
            guard let head, let registry = handlers.registry.withLock({ $0 }) else { return context.close(promise: nil) }
            let headers = Dictionary(head.headers.map { ($0.name.lowercased(), $0.value) }) { $0 + ", " + $1 }
            let request = FakeRegistry.Request(
                method: head.method.rawValue, path: head.uri, headers: headers, body: body, number: 0)
            write(registry.answer(request), context)
        }
    }

    private func trickle(_ count: Int, _ pause: TimeAmount, _ bound: NIOLoopBound<ChannelHandlerContext>) {
        let context = bound.value
        guard count > 0 else { return context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil) }
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: pause) {
            guard bound.value.channel.isActive else { return }
            bound.value.writeAndFlush(handler.value.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: [0])))), promise: nil)
            handler.value.trickle(count - 1, pause, bound)
        }
    }

    private func write(_ answer: FakeRegistry.Answer, _ context: ChannelHandlerContext) {
        var headers = HTTPHeaders(answer.headers)
        headers.add(name: "content-length", value: String(answer.announcedLength ?? answer.body.count))
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
        switch answer.ending {
        case .whole: context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        case .hang: context.flush()
        case .trickle(let pause):
            context.flush()
            trickle((answer.announcedLength ?? 0) - answer.body.count, pause, NIOLoopBound(context, eventLoop: context.eventLoop))
        case .close:
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            context.flush()
            context.eventLoop.execute { bound.value.close(promise: nil) }
        }
    }
}
