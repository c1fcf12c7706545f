// Attention row by row: the general path, and the oracle of the packed one.

import ApusGraph
import ApusTensor

extension AttentionProblem {
  /// `rounding`: the type that scores and probabilities are rounded to.
  func plainStep<Element: Real>(_ type: Element.Type, rounding: DataType?) -> Step {
    let keys = geometry.keys
    let rows = geometry.batch * geometry.queryHeads * geometry.queries
    let partition = Partition(rows, of: .light * 2 * keys * (geometry.size + geometry.valueSize))
    return Step.parallel(parts: partition.parts, scratchBytes: partition.parts * keys * 8) { run, part in
      let scores = run.scratch.assumingMemoryBound(to: Double.self) + part &* keys
      for row in partition.range(part) {
        let (image, rest) = row.quotientAndRemainder(dividingBy: geometry.queryHeads &* geometry.queries)
        let (head, query) = rest.quotientAndRemainder(dividingBy: geometry.queries)
        plainRow(type, run, image, head, query, scores, rounding)
      }
    }.named("plain", cost: Cost(operations: operations))
  }

  private func plainRow<Element: Real>(
    _ type: Element.Type, _ run: RunContext, _ image: Int, _ head: Int, _ query: Int,
    _ scores: UnsafeMutablePointer<Double>, _ rounding: DataType?
  ) {
    let (keys, size, valueSize) = (geometry.keys, geometry.size, geometry.valueSize)
    let keyHead = head / geometry.group
    let q =
      run.input(0, as: Element.self)
      + (image &* geometry.query.batch &+ head &* geometry.query.head &+ query &* geometry.query.row)
    let k = run.input(1, as: Element.self) + (image &* geometry.key.batch &+ keyHead &* geometry.key.head)
    let v = run.input(2, as: Element.self) + (image &* geometry.value.batch &+ keyHead &* geometry.value.head)
    let y =
      run.output(0, as: Element.self)
      + (image &* geometry.result.batch &+ head &* geometry.result.head &+ query &* geometry.result.row)
    let kept =
      run.output(1, as: Element.self)
      + ((image &* geometry.queryHeads &+ head) &* geometry.queries &+ query) &* keys
    func keep(_ mode: Int) {
      guard scoreMode == mode else { return }
      for key in 0..<keys { kept[key] = Element(scores[key]) }
    }
    for key in 0..<keys {
      let line = k + key &* geometry.key.row
      var sum = 0.0
      for index in 0..<size { sum += Double(q[index]) * Double(line[index]) }
      scores[key] = sum * scale
    }
    keep(0)
    if softcap > 0 {
      for key in 0..<keys { scores[key] = softcap * Double.tanh(scores[key] / softcap) }
    }
    keep(1)
    let isEmpty = addBias(type, run, image, head, query, scores)
    keep(2)
    if let rounding { for key in 0..<keys { scores[key] = Double(rounded(Float(scores[key]), to: rounding)) } }
    softmax(scores, isEmpty: isEmpty)
    if let rounding { for key in 0..<keys { scores[key] = Double(rounded(Float(scores[key]), to: rounding)) } }
    keep(3)
    for column in 0..<valueSize {
      var sum = 0.0
      for key in 0..<keys where scores[key] != 0 { sum += scores[key] * Double(v[key &* geometry.value.row &+ column]) }
      y[column] = Element(sum)
    }
  }

  /// Adds the mask; keys that are out of sight get -infinity. True if no key is left.
  private func addBias<Element: Real>(
    _ type: Element.Type, _ run: RunContext, _ image: Int, _ head: Int, _ query: Int,
    _ scores: UnsafeMutablePointer<Double>
  ) -> Bool {
    let seen = visible(run, batch: image, query: query)
    let row = mask.map { run.input(3, as: Element.self) + $0.row(batch: image, head: head, query: query) }
    var isEmpty = true
    for key in 0..<geometry.keys {
      let bias = seen.contains(key) ? row.map { Double($0[key]) } ?? 0 : -.infinity
      if bias != -.infinity { isEmpty = false }
      scores[key] += bias
    }
    return isEmpty
  }

  /// Probabilities; all `emptyRows` if no key is left or every score is -infinity.
  private func softmax(_ scores: UnsafeMutablePointer<Double>, isEmpty: Bool) {
    var highest = -Double.infinity
    for key in 0..<geometry.keys where scores[key] > highest || scores[key].isNaN { highest = scores[key] }
    guard !isEmpty, highest != -.infinity else {
      for key in 0..<geometry.keys { scores[key] = Double(emptyRows) }
      return
    }
    var sum = 0.0
    for key in 0..<geometry.keys {
      scores[key] = Double.exp(scores[key] - highest)
      sum += scores[key]
    }
    for key in 0..<geometry.keys { scores[key] /= sum }
  }
}
