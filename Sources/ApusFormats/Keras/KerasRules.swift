// All rules of the Keras importer, and what is never read.

import ApusGraph

enum KerasRules {
  /// By the class of a layer.
  static let layers: [String: KerasRule] = {
    var all: [String: KerasRule] = [:]
    let families = [
      KerasCore.rules, KerasConvolutions.rules, KerasPooling.rules, KerasNormalization.rules, KerasMerging.rules,
      KerasRecurrence.rules, KerasAttention.rules, KerasConvolutionalRecurrence.rules,
    ]
    for family in families { all.merge(family) { first, _ in first } }
    return all
  }()

  /// Layers that hold code of the model's author.
  static let code: Set<String> = ["Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"]

  /// The rule of a layer, an operation or a function; nil if there is none.
  static func rule(for layer: KerasLayer) -> KerasRule? {
    if layer.isOperation { return KerasOperations.rules[layer.className] }
    if layer.className == "TFOpLambda" || layer.className == "SlicingOpLambda" || layer.className == "ClassMethod" {
      return layer.config["function"]?.text.flatMap { KerasOperations.functions[$0] }
    }
    return layers[layer.className]
  }

  /// What people know a layer as: its class, or the function that it holds.
  static func kind(of layer: KerasLayer) -> String {
    if layer.isOperation { return "ops." + layer.className }
    return layer.config["function"]?.text.map { "tf." + $0 } ?? layer.className
  }

  /// Notes every layer of a model that has no rule or is code, in all models and wrappers.
  static func survey(_ model: KerasModel, _ prefix: String, _ ledger: ImportLedger) {
    for layer in model.layers { survey(layer, prefix, ledger, depth: 0) }
  }

  private static func survey(_ layer: KerasLayer, _ prefix: String, _ ledger: ImportLedger, depth: Int) {
    let name = prefix + layer.name
    ledger.hasLayers(1)
    if let model = layer.model { return survey(model, name + "/", ledger) }
    if layer.className == "InputLayer" { return }
    if code.contains(layer.className) {
      return ledger.refuse(
        "the code of a \(layer.className) layer", at: name, remedy: "Replace it by layers of Keras or by keras.ops")
    }
    if layer.isCustom {
      let known = layer.registeredName ?? layer.className
      return ledger.refuse(
        "the custom class \(known)", at: name, remedy: "Build the model of layers of Keras, and export it from there")
    }
    if rule(for: layer) == nil { return ledger.isUnmapped(kind(of: layer), at: name) }
    surveyPolicy(layer, name, ledger)
    surveyActivations(layer, name, ledger)
    for key in ["layer", "backward_layer", "cell"] {
      guard depth < 8, let value = layer.config[key], let inner = try? KerasModelParser.layer(value) else { continue }
      // Cells have no rule of their own.
      if key != "cell" || inner.isCustom || code.contains(inner.className) {
        survey(inner, name + "/", ledger, depth: depth + 1)
      }
    }
  }

  /// What a layer computes in: a name, or a policy with a name.
  private static func surveyPolicy(_ layer: KerasLayer, _ name: String, _ ledger: ImportLedger) {
    if layer.config.object("dtype")["class_name"]?.text?.contains("Quantized") ?? false {
      return ledger.isUnmapped("quantized \(layer.className)", at: name)
    }
    guard let type = layer.config.policyName, type.contains("float"), type != "float32" else { return }
    ledger.note("layers of the type \(type) compute in float32")
  }

  /// Activations that are functions of the author.
  private static func surveyActivations(_ layer: KerasLayer, _ name: String, _ ledger: ImportLedger) {
    for key in ["activation", "recurrent_activation"] {
      guard let value = layer.config[key], let (activation, _) = try? KerasActivations.read(value, key) else {
        continue
      }
      if code.contains(activation) {
        ledger.refuse("the code of an activation", at: name, remedy: "Use an activation of Keras")
      } else if KerasActivations.table[activation] == nil {
        ledger.isUnmapped("activation \(activation)", at: name)
      }
    }
  }
}
