import Foundation
import Support

/// Bytes that can be made again from their seed.
package func randomBytes(_ count: Int, seed: UInt64) -> Data {
    var random = SplitMix(seed: seed)
    var words = [UInt64](repeating: 0, count: count / 8 + 1)
    for index in words.indices { words[index] = random.next() }
    return words.withUnsafeBytes { Data($0.prefix(count)) }
}
