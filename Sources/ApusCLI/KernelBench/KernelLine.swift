// A line of kernels.inc, and its functions on the machines that this one can stand for.

import CApusKernels

struct KernelLine {
  let index: Int
  let name, type: String
  let elements: [String]

  static let all: [KernelLine] = (0..<apus_kernel_count()).map { index in
    let info = apus_kernel_at(index)
    return KernelLine(
      index: index, name: String(cString: info.name), type: String(cString: info.type),
      elements: String(cString: info.elements).split(separator: " ").map(String.init))
  }

  /// The function in a table. `sample` is that of a kernel of the same type, which `type` vouches for.
  func function<Function>(in table: KernelTable, like sample: Function) -> Function {
    unsafeBitCast(apus_kernel_function(table, index), to: Function.self)
  }

  func variant(in table: KernelTable) -> String { String(cString: table.pointee.variants[index].pointee.name) }

  /// Bytes of an element of the type at a place of the list; of the last one beyond its end.
  func bytes(_ place: Int) -> Int {
    elements.last?.hasPrefix("byte") == true ? Int(elements[0]) ?? 1 : KernelMemory.width(element(place))
  }
  func element(_ place: Int) -> String { elements[min(place, elements.count - 1)] }
}

typealias KernelTable = UnsafePointer<apus_kernel_table>

/// A variant of every kernel that differs from those of the tables before it.
enum KernelMachines {
  /// The table in use, and those of lesser machines.
  static var tables: [KernelTable] {
    let chosen = apus_kernels()
    let all = (0..<apus_machine_count()).map { apus_machine_at($0) }
    let lesser = all.filter { table in
      table != chosen && table.pointee.level.rawValue <= chosen.pointee.level.rawValue
        && table.pointee.features & ~chosen.pointee.features == 0
    }
    return [chosen] + lesser
  }

  /// Tables with variants of a kernel that differ, the one in use first.
  static func tables(for line: KernelLine, all: Bool) -> [KernelTable] {
    var seen: Set<String> = []
    return tables.prefix(all ? .max : 1).filter { seen.insert(line.variant(in: $0)).inserted }
  }
}
