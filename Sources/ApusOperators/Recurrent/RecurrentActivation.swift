// The activations of recurrent operators: which ones a node names, and how they are applied to the rows of a gate.
// https://onnx.ai/onnx/operators/onnx__LSTM.html

import ApusGraph

/// Reads `activations`, `activation_alpha` and `activation_beta`.
enum RecurrentActivation {
  private static let known = Activation.Kind.allCases.filter { $0.recurrentName != nil }

  /// The activations of a node: `count` for each direction, `defaults` where none are named. Values of alpha and beta
  /// go to those functions that have such a parameter, in order.
  static func all(
    _ context: some OperatorContext, directions: Int, defaults: [Activation.Kind]
  ) throws(OperatorError) -> [[Activation]] {
    var kinds: [Activation.Kind] = []
    if let names = context.optionalStrings("activations") {
      for name in names {
        guard let kind = known.first(where: { $0.recurrentName == name.lowercased() }) else {
          throw .invalid(
            "'\(name)' is no activation",
            remedy: "Known are: " + known.compactMap(\.recurrentName).joined(separator: ", "))
        }
        kinds.append(kind)
      }
    } else {
      for _ in 0..<directions { kinds += defaults }
    }
    guard kinds.count >= directions * defaults.count else {
      throw .invalid("\(kinds.count) activations; expected \(defaults.count) for each of \(directions) directions")
    }
    var alphas = (context.optionalFloats("activation_alpha") ?? [])[...]
    var betas = (context.optionalFloats("activation_beta") ?? [])[...]
    let all = kinds.map { kind in
      Activation(
        kind, alpha: kind.parameters.isEmpty ? nil : alphas.popFirst(),
        beta: kind.parameters.count < 2 ? nil : betas.popFirst())
    }
    return (0..<directions).map { Array(all[$0 * defaults.count..<($0 + 1) * defaults.count]) }
  }

  /// Applies itself to `count` elements in place.
  typealias Function<Element> = @Sendable (_ x: UnsafeMutablePointer<Element>, _ count: Int) -> Void
}

extension Activation {
  /// The plain form, for any type.
  func inPlace<Element: Real>(_ type: Element.Type) -> RecurrentActivation.Function<Element> {
    { x, count in for index in 0..<count { x[index] = direct(x[index]) } }
  }

  /// The form for float32 on the C kernels, where there is one. That of Softplus rounds in other places than the plain
  /// form, which recurrent layers keep.
  var fastInPlace: RecurrentActivation.Function<Float> {
    guard kind != .softplus, let loop = function.fastLoop else { return inPlace(Float.self) }
    return { x, count in loop(x, x, count) }
  }
}
