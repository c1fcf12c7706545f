// Products of matrices that the algorithms need, computed by the engine.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor

/// A prepared product A · B of matrices of any size.
struct MatrixProducts<Element: TensorElement & BinaryFloatingPoint>: Sendable {
  private let run: GraphRun

  init(on pool: WorkerPool) throws(CompressionError) {
    let builder = GraphBuilder(name: "product", inference: InferenceDriver(registry: .standard))
    do throws(OperatorError) {
      let a = builder.addInput("a", fact: .tensor(Element.dataType, [.symbol("m"), .symbol("k")]))
      let b = builder.addInput("b", fact: .tensor(Element.dataType, [.symbol("k"), .symbol("n")]))
      builder.graph.outputs = [try builder.apply(OperatorID("MatMul"), name: "product", [a, b])]
    } catch {
      throw CompressionError(error)
    }
    run = try GraphRun(builder.graph, in: RunSurroundings(pool: pool))
  }

  /// [m, k] · [k, n].
  func callAsFunction(_ a: Tensor, _ b: Tensor) throws(CompressionError) -> Tensor {
    guard let product = try run.outputs(for: [.tensor(a), .tensor(b)]).first?.tensor else {
      throw CompressionError(.failedNode, "a product of matrices gave no tensor")
    }
    return product
  }
}

extension Tensor {
  /// A matrix whose elements `fill` writes: it gets the first element, and may write `rows` · `columns`.
  static func matrix<Element: TensorElement>(
    _ rows: Int, _ columns: Int, _ fill: (UnsafeMutablePointer<Element>) -> Void
  ) throws(CompressionError) -> Tensor {
    do throws(TensorError) {
      let tensor = try Tensor(uninitialized: Element.dataType, shape: [rows, columns])
      // Memory of a tensor that nobody else has yet.
      fill(tensor.storage.base.assumingMemoryBound(to: Element.self))
      return tensor
    } catch {
      throw CompressionError(.limitExceeded, "a matrix of \(rows) × \(columns): \(error)")
    }
  }

  /// Calls `body` with the elements, which must be of that type and lie aligned, as results of runs do.
  func withElements<Element: TensorElement>(_ type: Element.Type, _ body: (UnsafePointer<Element>) -> Void) {
    body(base.assumingMemoryBound(to: Element.self))
    withExtendedLifetime(storage) {}
  }
}
