// The weights of Keras files: by the path of a layer among the saved objects (.keras), or by name in the group of its
// outermost layer (.h5).

import ApusGraph
import ApusTensor

/// Where the weights of one layer are.
struct KerasScope {
  /// The groups from the root on: "layers/dense_1". Empty parts are the model itself.
  var path: String
  /// The names of the outermost layer and of those inside of it, down to this one.
  var names: [String]

  /// That of an object that the layer keeps in `attribute`, with the name `name`.
  func child(_ attribute: String, named name: String) -> KerasScope {
    KerasScope(path: path.isEmpty ? attribute : "\(path)/\(attribute)", names: names + [name])
  }
}

/// Finds variables and makes tensors of them; those that lie in the file as they are needed stay ranges of it.
final class KerasWeights {
  private enum Order {
    /// Groups named after classes, variables by number.
    case byPath
    /// Groups named after layers, variables with names, in `root`.
    case byName(root: String)
  }

  private let file: HDF5File
  private let order: Order
  /// The names of the variables in the group of each outermost layer.
  private var variableNames: [String: [String]] = [:]
  /// Which layer took the variable of a path.
  private var takers: [String: String] = [:]

  /// Weights of a `.keras` archive.
  init(paths file: HDF5File) { (self.file, order) = (file, .byPath) }

  /// Weights of an `.h5` file, in `root` with an attribute `layer_names`.
  init(names file: HDF5File, root: String) { (self.file, order) = (file, .byName(root: root)) }

  var usesPaths: Bool { if case .byPath = order { true } else { false } }

  /// The variables of a layer under `names`, in the order in which it makes them; other names that a variable had in
  /// other versions stand behind a bar: "kernel|depthwise_kernel". A star stands for any name.
  func variables(_ scope: KerasScope, _ names: [String]) throws(OperatorError) -> [Tensor] {
    do throws(LoadError) {
      switch order {
      case .byPath: return try numbered(scope, names)
      case .byName(let root): return try named(scope, names, root)
      }
    } catch {
      throw .invalid(error.description, remedy: "Save the model again with all its weights")
    }
  }

  /// How many variables a layer has: only with paths.
  private func numbered(_ scope: KerasScope, _ names: [String]) throws(LoadError) -> [Tensor] {
    for path in Self.paths(scope.path) {
      guard let group = try file[path + "/vars"], group.isGroup else { continue }
      let links = try group.links()
      guard links.count == names.count else {
        if links.isEmpty { continue }
        throw .malformed(
          "\(path)/vars should hold \(names.count) variables (\(names.joined(separator: ", "))); "
            + "it holds \(links.count)")
      }
      var tensors: [Tensor] = []
      for number in names.indices {
        guard let variable = try group.child(String(number)) else {
          throw .malformed("\(path)/vars should hold a variable \(number)")
        }
        tensors.append(try tensor(variable))
      }
      return tensors
    }
    throw .malformed("the weights hold no \(scope.path)/vars with \(names.joined(separator: ", "))")
  }

  /// The paths that layers have had: parts with bars have several names, and Keras 2.12 called layers otherwise.
  private static func paths(_ path: String) -> [String] {
    var paths = [""]
    for part in path.split(separator: "/") {
      let names = part.split(separator: "|")
      paths = paths.flatMap { start in names.map { start.isEmpty ? String($0) : "\(start)/\($0)" } }
    }
    return paths + paths.map { $0.replacing("layers/", with: "_layer_checkpoint_dependencies/") }
  }

  // MARK: - Names

  private func named(_ scope: KerasScope, _ names: [String], _ root: String) throws(LoadError) -> [Tensor] {
    guard let outermost = scope.names.first else { throw .malformed("a layer has no name") }
    let group = "\(root)/\(outermost)"
    let known = try namesOfVariables(of: outermost, in: group)
    var tensors: [Tensor] = []
    for name in names {
      let name = try choose(name.split(separator: "|").map(String.init), of: known, scope)
      guard let variable = try file["\(group)/\(name)"] else {
        throw .malformed("\(group) should hold \(name), which its weight_names say")
      }
      let owner = scope.names.joined(separator: "/")
      if let other = takers.updateValue(owner, forKey: variable.path), other != owner {
        throw .malformed("\(variable.path) could be a weight of both \(other) and \(owner)")
      }
      tensors.append(try tensor(variable))
    }
    return tensors
  }

  private func namesOfVariables(of layer: String, in group: String) throws(LoadError) -> [String] {
    if let known = variableNames[layer] { return known }
    guard let object = try file[group] else { throw .malformed("the weights hold no group \(group)") }
    let known = try Self.strings(of: object, "weight_names")
    variableNames[layer] = known
    return known
  }

  /// The list of strings in an attribute, or in several that are numbered.
  static func strings(of object: HDF5Object, _ name: String) throws(LoadError) -> [String] {
    let attributes = try object.attributes()
    if let whole = attributes.first(where: { $0.name == name }) {
      return whole.values.count == 0 ? [] : try whole.values.strings()
    }
    var strings: [String] = []
    var number = 0
    while let part = attributes.first(where: { $0.name == "\(name)\(number)" }) {
      strings += try part.values.strings()
      number += 1
    }
    return strings
  }

  /// The name among `known` that ends in one of `leaves` and has most of the layers around it in it.
  private func choose(_ leaves: [String], of known: [String], _ scope: KerasScope) throws(LoadError) -> String {
    var best: [String] = []
    var most = -1
    for name in known {
      var parts = name.split(separator: "/").map(String.init)
      guard var leaf = parts.popLast() else { continue }
      if let colon = leaf.lastIndex(of: ":") { leaf = String(leaf[..<colon]) }
      guard leaves.contains(leaf) || leaves.contains("*") else { continue }
      // The innermost layer that the name knows counts most.
      var score = 0
      for (depth, layer) in scope.names.enumerated() where parts.contains(layer) { score += 1 << min(depth, 40) }
      if score > most { (best, most) = ([], score) }
      if score == most { best.append(name) }
    }
    guard let first = best.first else {
      throw .malformed(
        "the layer \(scope.names.joined(separator: "/")) has no weight \(leaves[0]) among "
          + "\(known.prefix(8))")
    }
    guard best.count == 1 else {
      throw .malformed("the layer \(scope.names.joined(separator: "/")) could have the weights \(best.prefix(4))")
    }
    return first
  }

  // MARK: - Tensors

  private func tensor(_ object: HDF5Object) throws(LoadError) -> Tensor {
    do throws(LoadError) {
      guard object.isDataset else { throw .malformed("a dataset was expected") }
      let values = try object.values()
      let shape = Shape(values.shape)
      let type = try values.type
      switch type.kind {
      case .number(let element, _): return try values.littleEndian().tensor(element, shape)
      case .opaque where type.byteCount == 2: return try values.opaqueBytes().tensor(.bfloat16, shape)
      default: throw .unsupported("numbers were expected; found text or opaque bytes")
      }
    } catch {
      throw error.at(path: object.path)
    }
  }
}
