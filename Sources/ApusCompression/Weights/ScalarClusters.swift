// Numbers that share a few values: k-means on a line, and what the positions of the values cost. Lloyd, IEEE Trans.
// Inf. Theory 28 (1982); Huffman, Proc. IRE 40 (1952); Han et al., arXiv 1510.00149.

import ApusTensor

/// A codebook for numbers of one dimension. Deterministic: the start follows from the numbers.
struct ScalarClusters {
  /// The shared values in ascending order.
  private(set) var centers: [Float] = []
  /// The numbers in ascending order, without repetition.
  private var points: [Float] = []
  /// Before each point: the sum of the weights, of weight times point, and of weight times its square.
  private var sums: [(weight: Double, first: Double, second: Double)] = []

  /// Rounds are ended before if nothing moves any more.
  private static let maximumRounds = 200

  /// Numbers are finite. With `byMagnitude` an error counts as often as the number is large. With `keepsZero` zero is
  /// one of the values, and stands for zeros alone.
  init(_ numbers: [Float], count: Int, byMagnitude: Bool, keepsZero: Bool) {
    let sorted = numbers.sorted()
    let hasZero = keepsZero && sorted.contains(0)
    collect(hasZero ? sorted.filter { $0 != 0 } : sorted, byMagnitude)
    let free = hasZero ? count - 1 : count
    if points.count <= free {
      centers = points
    } else if free > 0 {
      centers = bestStart(free) ?? start(free)
      for _ in 0..<Self.maximumRounds where !improve() { break }
      centers = Array(Set(centers)).sorted()
    }
    if hasZero { centers = (centers.filter { $0 != 0 } + [0]).sorted() }
  }

  private mutating func collect(_ sorted: [Float], _ byMagnitude: Bool) {
    var total = (weight: 0.0, first: 0.0, second: 0.0)
    sums = [total]
    var index = 0
    while index < sorted.count {
      let number = sorted[index]
      var repetitions = 0
      while index < sorted.count, sorted[index] == number {
        repetitions += 1
        index += 1
      }
      // Zeros count a little, or they would belong to nobody.
      let weight = Double(repetitions) * (byMagnitude ? max(Double(abs(number)), 1e-12) : 1)
      total.weight += weight
      total.first += weight * Double(number)
      total.second += weight * Double(number) * Double(number)
      points.append(number)
      sums.append(total)
    }
  }

  /// The centers of the best partition of a few thousand bins; nil for so many centers that this takes long. The best
  /// last part of a prefix moves to the right with its end, so each layer is found by halving (Grønlund et al., arXiv
  /// 1701.07204).
  private func bestStart(_ count: Int) -> [Float]? {
    let ends = binEnds()
    guard count <= Self.maximumStartCenters, count < ends.count else { return nil }
    var least = ends.map { cost(0, $0) }
    var lastParts: [[Int32]] = []
    for _ in 1..<max(count, 1) {
      var next = least
      var parts = [Int32](repeating: 0, count: ends.count)
      layer(0, ends.count - 1, 0, ends.count - 1, ends, least, &next, &parts)
      least = next
      lastParts.append(parts)
    }
    var centers: [Float] = []
    var bin = ends.count - 1
    for parts in lastParts.reversed() where bin >= 0 {
      let begin = Int(parts[bin])
      centers.append(mean(begin == 0 ? 0 : ends[begin - 1], ends[bin]))
      bin = begin - 1
    }
    if bin >= 0 { centers.append(mean(0, ends[bin])) }
    return centers.sorted()
  }

  private static let maximumStartCenters = 512
  private static let maximumBins = 2048

  /// The positions behind the points of each bin: the points themselves, if they are few.
  private func binEnds() -> [Int] {
    if points.count <= Self.maximumBins { return Array(1...points.count) }
    let (low, high) = (Double(points[0]), Double(points[points.count - 1]))
    var ends: [Int] = []
    var last = 0
    for (index, point) in points.enumerated() {
      let bin = min(Int((Double(point) - low) / (high - low) * Double(Self.maximumBins)), Self.maximumBins - 1)
      if bin != last {
        ends.append(index)
        last = bin
      }
    }
    return ends + [points.count]
  }

  /// The error of the points from `begin` to before `end` with their mean in the place of all.
  private func cost(_ begin: Int, _ end: Int) -> Double {
    let weight = sums[end].weight - sums[begin].weight
    let first = sums[end].first - sums[begin].first
    return weight > 0 ? max(sums[end].second - sums[begin].second - first * first / weight, 0) : 0
  }

  private func mean(_ begin: Int, _ end: Int) -> Float {
    Float((sums[end].first - sums[begin].first) / max(sums[end].weight - sums[begin].weight, .leastNormalMagnitude))
  }

  /// The least errors of the bins up to each from `low` to `high` with one part more, whose first bin lies between
  /// `from` and `to`.
  private func layer(
    _ low: Int, _ high: Int, _ from: Int, _ to: Int, _ ends: [Int], _ former: [Double], _ least: inout [Double],
    _ parts: inout [Int32]
  ) {
    if low > high { return }
    let middle = low + (high - low) / 2
    var (best, part) = (Double.infinity, from)
    for begin in from...max(min(to, middle), from) where begin <= middle {
      let error = (begin == 0 ? 0 : former[begin - 1]) + cost(begin == 0 ? 0 : ends[begin - 1], ends[middle])
      if error < best { (best, part) = (error, begin) }
    }
    (least[middle], parts[middle]) = (best, Int32(truncatingIfNeeded: part))
    layer(low, middle - 1, from, part, ends, former, &least, &parts)
    layer(middle + 1, high, part, to, ends, former, &least, &parts)
  }

  /// Where the density to the third is equal: what many values tend to (Panter and Dite, Proc. IRE 39, 1951).
  private func start(_ count: Int) -> [Float] {
    let binCount = 2048
    guard let low = points.first, let high = points.last, high > low else { return points }
    let width = (Double(high) - Double(low)) / Double(binCount)
    var mass = [Double](repeating: 0, count: binCount)
    for (index, point) in points.enumerated() {
      let bin = min(Int((Double(point) - Double(low)) / width), binCount - 1)
      mass[bin] += sums[index + 1].weight - sums[index].weight
    }
    let density = mass.map { $0.cubeRoot }
    let total = density.reduce(0, +)
    var starts: [Float] = []
    var (bin, before) = (0, 0.0)
    for place in 0..<count {
      let wanted = (Double(place) + 0.5) / Double(count) * total
      while bin < binCount - 1, before + density[bin] < wanted {
        before += density[bin]
        bin += 1
      }
      let part = density[bin] > 0 ? (wanted - before) / density[bin] : 0.5
      starts.append(Float(Double(low) + (Double(bin) + part) * width))
    }
    return starts
  }

  /// Moves each center to the mean of what is nearest to it. False if none moved.
  private mutating func improve() -> Bool {
    let ends = bounds()
    var next: [Float] = []
    var (worst, worstError) = (0, -1.0)
    var begin = 0
    for (place, end) in ends.enumerated() {
      let weight = sums[end].weight - sums[begin].weight
      let first = sums[end].first - sums[begin].first
      next.append(weight > 0 ? Float(first / weight) : .nan)
      let error = weight > 0 ? sums[end].second - sums[begin].second - first * first / weight : 0
      if error > worstError, end - begin > 1 { (worst, worstError) = (place, error) }
      begin = end
    }
    // A center without numbers helps where the error is largest.
    if let idle = next.firstIndex(where: \.isNaN) {
      let (from, to) = (worst == 0 ? 0 : ends[worst - 1], ends[worst])
      next[idle] = to - from > 1 ? points[to - 1] : centers[idle]
      for place in next.indices where next[place].isNaN { next[place] = centers[place] }
    }
    next.sort()
    if next == centers { return false }
    centers = next
    return true
  }

  /// By center: the position behind the last point that is nearest to it.
  private func bounds() -> [Int] {
    var ends: [Int] = []
    for place in centers.indices {
      guard place + 1 < centers.count else {
        ends.append(points.count)
        break
      }
      let middle = Self.middle(centers[place], centers[place + 1])
      var (low, high) = (ends.last ?? 0, points.count)
      while low < high {
        let half = low + (high - low) / 2
        if points[half] <= middle { low = half + 1 } else { high = half }
      }
      ends.append(low)
    }
    return ends
  }

  private static func middle(_ a: Float, _ b: Float) -> Float { Float((Double(a) + Double(b)) / 2) }

  /// The position of the value that stands for each number. With a zero that is kept, zeros get it and nothing else.
  func positions(of numbers: [Float], keepsZero: Bool) -> [Int] {
    let zero = keepsZero ? centers.firstIndex(of: 0) : nil
    let places = centers.indices.filter { $0 != zero }
    let middles = zip(places, places.dropFirst()).map { Self.middle(centers[$0], centers[$1]) }
    return numbers.map { number in
      if let zero, number == 0 || places.isEmpty { return zero }
      var (low, high) = (0, middles.count)
      while low < high {
        let half = low + (high - low) / 2
        if number > middles[half] { low = half + 1 } else { high = half }
      }
      return places[low]
    }
  }
}

/// What symbols cost that occur so often.
struct SymbolCost {
  /// Bits a symbol, at least.
  let entropy: Double
  /// Bits of all symbols in Huffman's code, without its table.
  let huffmanBits: Int

  init(_ counts: [Int]) {
    let total = Double(counts.reduce(0, +))
    entropy = counts.reduce(0.0) { sum, count in
      count == 0 ? sum : sum - Double(count) / total * (Double(count) / total).logarithm2
    }
    // Two queues: the counts in ascending order, and the sums, which come in ascending order by themselves.
    let leaves = counts.filter { $0 > 0 }.sorted()
    guard leaves.count > 1 else {
      huffmanBits = leaves.first ?? 0
      return
    }
    var sums: [Int] = []
    var (leaf, sum, bits) = (0, 0, 0)
    func next() -> Int {
      if leaf < leaves.count, sum >= sums.count || leaves[leaf] <= sums[sum] {
        leaf += 1
        return leaves[leaf - 1]
      }
      sum += 1
      return sums[sum - 1]
    }
    for _ in 1..<leaves.count {
      let both = next() + next()
      bits += both
      sums.append(both)
    }
    huffmanBits = bits
  }
}
