// What is true of a sample, as files say it.

import Apus
import ApusFormats
import Foundation

/// What is true of a sample.
enum SampleLabel {
  /// A word of a table: the name or number of a class, a number, a text.
  case text(String)
  /// The number of a class, as the folder of the sample says.
  case classIndex(Int)
  case tensor(Tensor)
  /// Boxes as parts of the picture's width and height.
  case objects([TrueObject])
}

/// Boxes in the files of COCO. https://cocodataset.org/#format-data
struct COCOAnnotations {
  /// The names of the classes, in the order of their ids: class k of the model is the k-th.
  let classNames: [String]
  private var objects: [String: [TrueObject]] = [:]

  private struct File: Decodable {
    struct Picture: Decodable {
      var id: Int
      var file_name: String
      var width, height: Double
    }
    struct Category: Decodable {
      var id: Int
      var name: String?
    }
    struct Annotation: Decodable {
      var image_id, category_id: Int
      var bbox: [Double]
      var iscrowd: Int?
    }
    var images: [Picture]
    var categories: [Category]
    var annotations: [Annotation]
  }

  init(path: String) throws {
    let content = try FileBytes.open(path: path)
    let bytes = content.withBytes { bytes in bytes.indices.map { bytes[$0] } }
    let file: File
    do { file = try JSONDecoder().decode(File.self, from: Data(bytes)) } catch {
      throw InputError(
        "\(path): expected images, categories and annotations with bbox, as COCO has them: \(reason(error))")
    }
    let categories = file.categories.sorted { $0.id < $1.id }
    classNames = categories.map { $0.name ?? "\($0.id)" }
    let classes = Dictionary(categories.enumerated().map { ($1.id, $0) }) { first, _ in first }
    let pictures = Dictionary(file.images.map { ($0.id, $0) }) { first, _ in first }
    for picture in file.images {
      guard picture.width > 0, picture.height > 0 else {
        throw InputError("\(path): image \(picture.id) is \(picture.width) × \(picture.height)")
      }
      objects[Self.key(picture.file_name)] = []
    }
    for annotation in file.annotations {
      guard let picture = pictures[annotation.image_id], let index = classes[annotation.category_id],
        annotation.bbox.count == 4
      else {
        throw InputError(
          "\(path): an annotation of image \(annotation.image_id) and category \(annotation.category_id) with "
            + "\(annotation.bbox.count) numbers; expected ids that are there, and 4 numbers")
      }
      let (x, y, width, height) = (annotation.bbox[0], annotation.bbox[1], annotation.bbox[2], annotation.bbox[3])
      let box = BoundingBox(
        left: x / picture.width, top: y / picture.height, right: (x + width) / picture.width,
        bottom: (y + height) / picture.height)
      objects[Self.key(picture.file_name)]?.append(
        TrueObject(box: box, classIndex: index, isIgnored: annotation.iscrowd == 1))
    }
  }

  private static func key(_ name: String) -> String { String(name.split(separator: "/").last ?? "") }

  /// The objects in the picture of that name, whatever its folder; nil if the file does not know it.
  subscript(picture: String) -> [TrueObject]? { objects[Self.key(picture)] }
}

/// Why a decoder failed, in one line.
private func reason(_ error: any Error) -> String {
  switch error {
  case DecodingError.keyNotFound(let key, _): "'\(key.stringValue)' is missing"
  case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
    context.codingPath.map(\.stringValue).joined(separator: ".") + " has another type"
  default: "it is no JSON"
  }
}
