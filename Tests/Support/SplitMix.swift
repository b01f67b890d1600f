import Foundation

/// Random numbers that can be repeated (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
public struct SplitMix: RandomNumberGenerator {
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// With the seed that an environment variable holds, else another one in each run. A test that fails says the seed.
    public init(variable: String) {
        self.init(seed: ProcessInfo.processInfo.environment[variable].flatMap { UInt64($0) } ?? .random(in: .min ... .max))
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
