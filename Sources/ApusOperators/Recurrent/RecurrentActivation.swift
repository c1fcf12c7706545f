// The activations of recurrent operators by name, with their parameters.
// https://onnx.ai/onnx/operators/onnx__LSTM.html

import ApusGraph
import CApusKernels

/// One activation function with its parameters.
struct RecurrentActivation: Sendable {
  enum Kind: String, Sendable, CaseIterable {
    case relu, tanh, sigmoid, affine, leakyrelu, thresholdedrelu, scaledtanh, hardsigmoid, elu, softsign, softplus

    /// The defaults of alpha and beta; nil where the function has no such parameter.
    var defaults: (alpha: Float?, beta: Float?) {
      switch self {
      case .relu, .tanh, .sigmoid, .softsign, .softplus: (nil, nil)
      case .affine: (1, 0)
      case .leakyrelu: (0.01, nil)
      case .thresholdedrelu, .elu: (1, nil)
      case .scaledtanh: (1, 1)
      case .hardsigmoid: (0.2, 0.5)
      }
    }
  }

  let kind: Kind
  var alpha: Float = 0
  var beta: Float = 0

  /// The activations of a node: `count` for each direction, `defaults` where none are named. Values of alpha and beta
  /// go to those functions that have such a parameter, in order.
  static func all(
    _ context: some OperatorContext, directions: Int, defaults: [Kind]
  ) throws(OperatorError) -> [[RecurrentActivation]] {
    var kinds: [Kind] = []
    if let names = context.optionalStrings("activations") {
      for name in names {
        guard let kind = Kind(rawValue: name.lowercased()) else {
          throw .invalid(
            "'\(name)' is no activation", remedy: "Known are: " + Kind.allCases.map(\.rawValue).joined(separator: ", "))
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
    var all: [RecurrentActivation] = []
    for kind in kinds {
      var activation = RecurrentActivation(kind: kind)
      if let alpha = kind.defaults.alpha { activation.alpha = alphas.popFirst() ?? alpha }
      if let beta = kind.defaults.beta { activation.beta = betas.popFirst() ?? beta }
      all.append(activation)
    }
    return (0..<directions).map { Array(all[$0 * defaults.count..<($0 + 1) * defaults.count]) }
  }

  /// Applies itself to `count` elements in place.
  typealias Function<Element> = @Sendable (_ x: UnsafeMutablePointer<Element>, _ count: Int) -> Void

  /// The plain form, for any type.
  func function<Element: Real>(_ type: Element.Type) -> Function<Element> {
    let (alpha, beta) = (Element(alpha), Element(beta))
    func map(_ body: @escaping @Sendable (Element) -> Element) -> Function<Element> {
      { x, count in for index in 0..<count { x[index] = body(x[index]) } }
    }
    return switch kind {
    case .relu: map { $0 < 0 ? 0 : $0 }
    case .tanh: map { Element.tanh($0) }
    case .sigmoid: map { 1 / (1 + Element.exp(-$0)) }
    case .affine: map { alpha * $0 + beta }
    case .leakyrelu: map { $0 < 0 ? alpha * $0 : $0 }
    case .thresholdedrelu: map { $0 > alpha ? $0 : $0.isNaN ? $0 : 0 }
    case .scaledtanh: map { alpha * Element.tanh(beta * $0) }
    case .hardsigmoid: map { clamp(alpha * $0 + beta, 0, 1) }
    case .elu: map { $0 < 0 ? alpha * Element.expm1($0) : $0 }
    case .softsign: map { $0 / (1 + $0.magnitude) }
    case .softplus: map { ($0 > 0 ? $0 : 0) + Element.log1p(Element.exp(-$0.magnitude)) }
    }
  }

  /// The form for float32 on the C kernels, where there is one.
  var fast: Function<Float> {
    let kernels = VectorKernels.current
    let (alpha, beta) = (alpha, beta)
    return switch kind {
    case .tanh: { x, count in kernels.table.pointee.tanh_f32(count, x, x, nil) }
    case .sigmoid: { x, count in kernels.table.pointee.sigmoid_f32(count, x, x, nil) }
    case .relu: { x, count in kernels.table.pointee.relu_f32(count, x, x, nil) }
    case .elu:
      { x, count in
        var alpha = alpha
        kernels.table.pointee.elu_f32(count, x, x, &alpha)
      }
    case .hardsigmoid:
      { x, count in
        var parameters = (alpha, beta)
        withUnsafeBytes(of: &parameters) {
          kernels.table.pointee.hard_sigmoid_f32(count, x, x, $0.assumingMemoryBound(to: Float.self).baseAddress)
        }
      }
    default: function(Float.self)
    }
  }
}
