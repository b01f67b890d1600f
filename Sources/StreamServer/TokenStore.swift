import Errors
import Synchronization

/// A request that has been allowed, with its place among the sessions.
struct AllowedRequest: Sendable {
    let request: StreamRequest
    let place: SessionPlace
}

/// What URLs are made of: each token allows one request, once, for a minute.
final class TokenStore: Sendable {
    static let lifetime = Duration.seconds(60)
    static let maximumInFlight = 1000
    /// 192 bits: 32 characters of base64url.
    private static let tokenBytes = 24

    private struct Entry {
        let token: [UInt8]
        let allowed: AllowedRequest
        let expiry: Duration
    }

    private let entries = Mutex<[Entry]>([])
    private let places: SessionPlaces
    private let now: @Sendable () -> Duration

    /// - Parameter now: a clock that never goes back, from whatever beginning.
    init(places: SessionPlaces, now: @escaping @Sendable () -> Duration) { (self.places, self.now) = (places, now) }

    /// - Throws: `.resourceExhausted` while so many tokens wait to be used, or so many sessions are there.
    func mint(_ request: StreamRequest) throws -> String {
        var random = SystemRandomNumberGenerator()
        let token = Array(Base64URL.encode((0..<Self.tokenBytes / 8).flatMap { _ in Self.bytes(random.next()) }).utf8)
        let time = now()
        try entries.withLock { entries in
            entries.removeAll { $0.expiry <= time }
            guard entries.count < Self.maximumInFlight else {
                throw SwiftletError(
                    .resourceExhausted, "\(Self.maximumInFlight) streaming requests wait for their clients; try again in a minute")
            }
            let allowed = AllowedRequest(request: request, place: try places.take(for: request))
            entries.append(Entry(token: token, allowed: allowed, expiry: time + Self.lifetime))
        }
        return String(decoding: token, as: UTF8.self)
    }

    /// - Returns: nil for a token that is unknown, used or expired. How long it takes does not tell how much of it was right.
    func redeem(_ token: some StringProtocol) -> AllowedRequest? {
        let presented = Array(token.utf8)
        let time = now()
        return entries.withLock { entries in
            var found: Int?
            for (index, entry) in entries.enumerated() where Self.areEqual(entry.token, presented) { found = index }
            guard let found else { return nil }
            let entry = entries.remove(at: found)
            return entry.expiry > time ? entry.allowed : nil
        }
    }

    /// Drops all that wait, and their places with them.
    func forget() { entries.withLock { $0.removeAll() } }

    private static func areEqual(_ token: [UInt8], _ presented: [UInt8]) -> Bool {
        guard token.count == presented.count else { return false }
        var difference: UInt8 = 0
        for index in token.indices { difference |= token[index] ^ presented[index] }
        return difference == 0
    }

    private static func bytes(_ number: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }
}

/// Base64 as it may stand in a URL (RFC 4648, section 5), without padding.
enum Base64URL {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var (text, bits, count): ([UInt8], UInt32, Int) = ([], 0, 0)
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                text.append(alphabet[Int(bits >> UInt32(count) & 63)])
            }
        }
        if count > 0 { text.append(alphabet[Int(bits << UInt32(6 - count) & 63)]) }
        return String(decoding: text, as: UTF8.self)
    }
}
