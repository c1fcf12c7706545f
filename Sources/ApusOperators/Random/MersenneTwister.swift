// The generator of NumPy's RandomState: MT19937 with the seeding, the doubles and the normal deviates of its legacy
// stream. Matsumoto and Nishimura, ACM TOMACS 8 (1998); Marsaglia's polar method; NumPy NEP 19 (the stream is frozen).

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// MT19937 over memory of the caller, so that a kernel can use its scratch.
package struct MersenneTwister {
  package static let stateBytes = count * 4
  private static let count = 624
  private static let middle = 397

  private let state: UnsafeMutablePointer<UInt32>
  private var index = MersenneTwister.count
  /// The second of a pair of normal deviates.
  private var spare: Double?

  /// `memory` holds `stateBytes` bytes, aligned to 4, and outlives the generator.
  package init(seed: UInt32, memory: UnsafeMutableRawPointer) {
    state = memory.bindMemory(to: UInt32.self, capacity: MersenneTwister.count)
    var value = seed
    for i in 0..<MersenneTwister.count {
      state[i] = value
      value = 1_812_433_253 &* (value ^ value >> 30) &+ UInt32(i) &+ 1
    }
  }

  private mutating func refill() {
    let (n, m) = (MersenneTwister.count, MersenneTwister.middle)
    for i in 0..<n {
      let bits = state[i] & 0x8000_0000 | state[(i + 1) % n] & 0x7FFF_FFFF
      state[i] = state[(i + m) % n] ^ bits >> 1 ^ (bits & 1 == 0 ? 0 : 0x9908_B0DF)
    }
    index = 0
  }

  package mutating func nextBits() -> UInt32 {
    if index == MersenneTwister.count { refill() }
    var y = state[index]
    index &+= 1
    y ^= y >> 11
    y ^= y << 7 & 0x9D2C_5680
    y ^= y << 15 & 0xEFC6_0000
    return y ^ y >> 18
  }

  /// Uniform in [0, 1), with 53 bits.
  package mutating func nextDouble() -> Double {
    let high = Double(nextBits() >> 5)
    let low = Double(nextBits() >> 6)
    return (high * 67_108_864 + low) / 9_007_199_254_740_992
  }

  /// Normal with mean 0 and variance 1.
  package mutating func nextNormal() -> Double {
    if let value = spare {
      spare = nil
      return value
    }
    while true {
      let x = 2 * nextDouble() - 1
      let y = 2 * nextDouble() - 1
      let square = x * x + y * y
      if square >= 1 || square == 0 { continue }
      let factor = (-2 * log(square) / square).squareRoot()
      spare = factor * x
      return factor * y
    }
  }

  /// 1 with probability `p` in [0, 1], else 0: a binomial deviate of one trial, by inversion.
  package mutating func nextBernoulli(_ p: Double) -> Int64 {
    if p == 0 { return 0 }
    return p <= 0.5 ? invert(p) : 1 - invert(1 - p)
  }

  private mutating func invert(_ p: Double) -> Int64 {
    let q = 1 - p
    let none = exp(log1p(-p))
    while true {
      let u = nextDouble()
      if u <= none { return 0 }
      // Beyond the probability of one success, which rounding alone can reach, the draw is repeated.
      if u - none <= p * none / q { return 1 }
    }
  }
}
