// swift-tools-version: 6.2
// Apus: an ONNX engine for Linux. The targets stand in the order of their dependencies; see docs/architecture.md.
import PackageDescription

let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
]

/// The libraries that decode pictures, with the traits of the package that enable them. A build has one trait or none:
/// SwiftPM hands several to the compiler in an order that changes from run to run, so that every build would begin
/// anew.
let imageLibraries: [(format: String, target: String, traits: Set<String>)] = [
  ("JPEG", "CApusJPEG", ["Images", "CommonImages"]), ("JPEG2000", "COpenJPEG", ["Images"]),
  ("PNG", "CPNG", ["Images", "CommonImages"]), ("TIFF", "CTIFF", ["Images"]),
  ("WebP", "CWebP", ["Images", "CommonImages"]),
]

/// The modules of the engine. A target names all that its code can see, not only what it imports: SwiftPM compiles it
/// again when the module file of a target that it names has changed. A private property that comes or goes far below
/// changes the size of a type, and may leave every module file between as it was.
let engine: [Target.Dependency] = [
  "ApusTensor", "ApusGraph", "ApusOperators", "ApusOptimizer", "ApusRuntime", "ApusContainers", "ApusFormats",
  "ApusCompression",
]
/// What the tests of a module see.
let tested = engine + ["Apus", "ApusTestSupport"]

let package = Package(
  name: "Apus",
  products: [
    .library(name: "Apus", targets: ["Apus"]),
    .executable(name: "apus", targets: ["ApusCLI"]),
    .library(name: "apus-c", type: .dynamic, targets: ["ApusC"]),
  ],
  traits: [
    .default(enabledTraits: ["Images"]),
    .trait(name: "Images", description: "every picture format, by libjpeg, libpng, libtiff, libwebp and libopenjp2"),
    .trait(name: "CommonImages", description: "JPEG, PNG and WebP pictures, by libjpeg, libpng and libwebp"),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    .target(name: "CApusKernels"),
    .target(name: "CApusProcess"),
    .systemLibrary(name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .target(name: "COnnxProto", dependencies: ["CProtobufC"], exclude: ["onnx.proto"]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(name: "CJPEG", pkgConfig: "libjpeg", providers: [.apt(["libjpeg-dev"])]),
    .target(
      name: "CApusJPEG",
      dependencies: [.target(name: "CJPEG", condition: .when(traits: ["Images", "CommonImages"]))],
      cSettings: [.define("APUS_JPEG", .when(traits: ["Images", "CommonImages"]))]),
    .systemLibrary(name: "CTIFF", pkgConfig: "libtiff-4", providers: [.apt(["libtiff-dev"])]),
    .systemLibrary(name: "CWebP", pkgConfig: "libwebp", providers: [.apt(["libwebp-dev"])]),
    .systemLibrary(name: "COpenJPEG", pkgConfig: "libopenjp2", providers: [.apt(["libopenjp2-7-dev"])]),
    .target(
      name: "ApusImage",
      dependencies: imageLibraries.map { .target(name: $0.target, condition: .when(traits: $0.traits)) },
      swiftSettings: strict + imageLibraries.map { .define($0.format, .when(traits: $0.traits)) }),
    .target(name: "ApusTensor", dependencies: ["CApusKernels", "CApusProcess"], swiftSettings: strict),
    .target(name: "ApusGraph", dependencies: ["ApusTensor"], swiftSettings: strict),
    .target(
      name: "ApusOperators", dependencies: ["ApusTensor", "ApusGraph", "ApusImage", "CApusKernels"],
      swiftSettings: strict),
    .target(
      name: "ApusOptimizer", dependencies: ["ApusTensor", "ApusGraph", "ApusOperators"], swiftSettings: strict),
    .target(
      name: "ApusRuntime", dependencies: ["ApusTensor", "ApusGraph", "CApusProcess"], swiftSettings: strict),
    .target(name: "ApusContainers", dependencies: ["ApusTensor", "CZlib"], swiftSettings: strict),
    .target(
      name: "ApusFormats", dependencies: ["ApusTensor", "ApusGraph", "ApusContainers", "COnnxProto"],
      swiftSettings: strict),
    .target(
      name: "ApusCompression", dependencies: engine.dropLast() + ["CApusKernels"], swiftSettings: strict),
    .target(name: "Apus", dependencies: engine, swiftSettings: strict),
    .systemLibrary(name: "CApus", path: "Sources/ApusC/include"),
    .target(
      name: "ApusC", dependencies: engine + ["Apus", "CApus", "CApusProcess"], exclude: ["include"],
      swiftSettings: strict),
    .target(name: "ApusConformance", dependencies: engine + ["Apus", "CApusKernels"], swiftSettings: strict),
    .executableTarget(
      name: "ApusCLI",
      dependencies: engine + [
        "Apus", "ApusConformance", "ApusImage", "CApusKernels",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Yams", package: "Yams"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "ApusFuzz", dependencies: engine + ["Apus", "ApusConformance"], path: "tools/fuzz",
      swiftSettings: strict),
    .target(
      name: "ApusTestSupport", dependencies: engine + ["Apus"], path: "Tests/ApusTestSupport",
      swiftSettings: strict),
    .testTarget(name: "CApusKernelsTests", dependencies: ["CApusKernels", "COpenBLAS"], swiftSettings: strict),
    .testTarget(
      name: "ApusImageTests", dependencies: ["ApusImage"], exclude: ["Samples", "make_samples.py"],
      swiftSettings: strict),
    .testTarget(name: "ApusTensorTests", dependencies: ["ApusTensor"], swiftSettings: strict),
    .testTarget(name: "ApusGraphTests", dependencies: tested, swiftSettings: strict),
    .testTarget(
      name: "ApusOperatorsTests", dependencies: tested + ["ApusConformance", "CApusKernels"],
      swiftSettings: strict),
    .testTarget(name: "ApusOptimizerTests", dependencies: tested, swiftSettings: strict),
    .testTarget(name: "ApusRuntimeTests", dependencies: tested, swiftSettings: strict),
    .testTarget(name: "ApusCompressionTests", dependencies: tested, swiftSettings: strict),
    .testTarget(
      name: "ApusContainersTests", dependencies: tested, exclude: ["Samples"], swiftSettings: strict),
    .testTarget(
      name: "ApusFormatsTests", dependencies: tested, exclude: ["Fixtures", "Samples"],
      swiftSettings: strict),
    .target(
      name: "ApusCProgram", path: "Tests/ApusCProgram",
      cSettings: [.headerSearchPath("../../Sources/ApusC/include")]),
    .target(name: "ApusAllocations", path: "Tests/ApusAllocations"),
    .testTarget(
      name: "ApusCTests", dependencies: tested + ["ApusC", "ApusCProgram", "ApusAllocations", "CApus"],
      swiftSettings: strict),
    .testTarget(name: "ApusTests", dependencies: tested + ["ApusAllocations"], swiftSettings: strict),
  ]
)
