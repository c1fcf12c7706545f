// The form of a compiled model: what its file begins with, and what it was made for; see docs/compiled-models.md.

import ApusGraph
import ApusTensor

/// The constants of the format. All numbers of the file are little endian.
///
///     0  magic            8 bytes
///     8  version          4
///     12 sections         4
///     16 bytes of the file         8
///     24 bytes that are checked    8: header, sections; behind them, at a multiple of 4096, the blocks
///     32 digest          32: SHA-256 of the bytes that are checked, with zeros in this place
///     64 sections: kind 4, zeros 4, first byte 8, bytes 8 each
enum CompiledFormat {
  /// The first byte is no text, and what changes the ends of lines is found out.
  static let magic: [UInt8] = [0x89] + Array("APUS".utf8) + [0x0D, 0x0A, 0x1A]
  static let version: UInt32 = 1

  static let headerBytes = 64
  static let digestRange = 32..<64
  static let sectionBytes = 24

  /// The kinds of sections, each of which is there once.
  enum Section: UInt32, CaseIterable {
    /// What the model was compiled for and by.
    case environment = 1
    /// The graph, and what the file of the model said.
    case model = 2
    /// Where the constants and the packed forms are.
    case constants = 3
    /// The bytes of small constants.
    case small = 4
  }

  /// Blocks begin at pages, so that no page has two of them.
  static let pageBytes = 4096
  /// Small constants begin at multiples of it, as all storage does.
  static let alignment = 64
  /// Readable bytes behind every block: kernels may read on to the end of a vector.
  static let padding = 64
  /// Constants of more bytes are blocks, unless their elements can be places or sizes: those must not change while a
  /// model runs, whatever happens to the file. No constant whose elements inference looks at has more.
  static let largestSmall = 8 * TensorFact.maximumValues

  /// True for types whose elements may be places, sizes or choices.
  static func decides(_ type: DataType) -> Bool {
    switch type {
    case .int32, .int64, .uint32, .uint64, .bool, .string: true
    default: false
    }
  }
}

/// What a compiled model was made by and for; it can be loaded where all of it is the same.
package struct CompiledEnvironment: Sendable, Hashable {
  /// The version of Apus.
  package var version: String
  /// The level of the machine's instructions, extensions beyond it, and the tiles that weights were packed for.
  package var level: String
  package var features: String
  package var tiles: String

  package init(version: String, level: String, features: String, tiles: String) {
    (self.version, self.level, self.features, self.tiles) = (version, level, features, tiles)
  }

  /// Why a model that was made for `self` cannot be loaded under `other`; nil if it can.
  func refusal(under other: CompiledEnvironment) -> String? {
    func machine(_ environment: CompiledEnvironment) -> String {
      environment.level + (environment.features.isEmpty ? "" : " with \(environment.features)")
    }
    if version != other.version {
      return "the model was compiled by Apus \(version); this is Apus \(other.version)"
    }
    if (level, features) != (other.level, other.features) {
      return "the model was compiled for the instructions \(machine(self)); this process uses \(machine(other))"
    }
    if tiles == other.tiles { return nil }
    return "the weights were packed for tiles \(tiles); the kernels here have \(other.tiles)"
  }
}

/// A name and what is known of the value behind it.
package struct NamedFact: Sendable {
  package var name: String
  package var fact: ValueFact

  package init(name: String, fact: ValueFact) { (self.name, self.fact) = (name, fact) }
}

/// What a compiled model holds beside its weights.
package struct CompiledContent: Sendable {
  /// The graph after all passes. Of values that nodes compute it has the types, and shapes are inferred anew.
  package var model: ModelGraph
  /// The inputs and outputs under the symbols of the file that was compiled.
  package var inputs: [NamedFact]
  package var outputs: [NamedFact]
  package var notes: [String]

  package init(model: ModelGraph, inputs: [NamedFact], outputs: [NamedFact], notes: [String]) {
    (self.model, self.inputs, self.outputs, self.notes) = (model, inputs, outputs, notes)
  }
}

extension ValueFact {
  /// The fact without elements.
  var withoutValues: ValueFact {
    if case .tensor(let fact) = self { .tensor(fact.dataType, fact.shape) } else { self }
  }
}
