// Functions that importers of several formats share.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Glibc
import Testing

@Suite struct LayerBuilderTests {
  @Test func anglesHaveTheSignsOfZerosAndInfinities() throws {
    let layers = LayerBuilder(
      name: "main", registry: .standard, ledger: ImportLedger(source: "a test", options: ImportOptions()))
    let numbers: [Float] = [-.infinity, -2, -0.0, 0, 0.5, .infinity]
    let points = numbers.flatMap { y in numbers.map { x in (y: y, x: x) } }
    let (ys, xs) = (layers.constant(Tensor(points.map(\.y))), layers.constant(Tensor(points.map(\.x))))
    let made = try #require(layers.constant(try layers.arcTangent(ys, xs)))
    let angles = try #require(made.elements(as: Float.self))
    for (point, angle) in zip(points, angles) {
      let expected = atan2f(point.y, point.x)
      #expect(abs(angle - expected) <= 1e-6 && (angle.sign == expected.sign), "\(point): \(angle), \(expected)")
    }
  }
}
