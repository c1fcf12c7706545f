// What of the schema of TensorFlow Lite is read: numbers of operators, element types and fields of tables.
// https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs

import ApusTensor

/// Numbers of the schema.
enum TFLiteSchema {
  /// The characters at byte 4 of a file.
  static let identifier = "TFL3"
  /// The version of the schema that files carry.
  static let version: UInt32 = 3

  // MARK: - Fields of the tables around operators

  enum Model {
    static let version = 0
    static let operatorCodes = 1
    static let subgraphs = 2
    static let description = 3
    static let buffers = 4
    static let metadata = 6
    static let signatures = 7
  }

  enum OperatorCode {
    static let deprecatedCode = 0
    static let customCode = 1
    static let version = 2
    static let code = 3
  }

  enum Subgraph {
    static let tensors = 0
    static let inputs = 1
    static let outputs = 2
    static let operators = 3
    static let name = 4
  }

  enum Tensor {
    static let shape = 0
    static let type = 1
    static let buffer = 2
    static let name = 3
    static let quantization = 4
    static let isVariable = 5
    static let sparsity = 6
    static let shapeSignature = 7
    static let hasRank = 8
    static let externalBuffer = 10
  }

  enum Quantization {
    static let scale = 2
    static let zeroPoint = 3
    static let detailsType = 4
    static let dimension = 6
  }

  enum Operator {
    static let opcode = 0
    static let inputs = 1
    static let outputs = 2
    /// The type of the options; the options follow.
    static let options = 3
    static let customOptions = 5
    static let largeCustomOptions = 9
    /// Those of the operators of StableHLO and of whatever came later.
    static let laterOptions = 11
  }

  enum Buffer {
    static let data = 0
    static let offset = 1
    static let size = 2
  }

  enum Metadata {
    static let name = 0
    static let buffer = 1
  }

  enum Signature {
    static let inputs = 0
    static let outputs = 1
    static let key = 2
    static let subgraph = 4
  }

  enum TensorMap {
    static let name = 0
    static let tensor = 1
  }

  // MARK: - Element types

  /// The element types by their numbers; nil for resources and variants, which are no tensors.
  static let elementTypes: [DataType?] = [
    .float32, .float16, .int32, .uint8, .int64, .string, .bool, .int16, .complex64, .int8, .float64, .complex128,
    .uint64, nil, nil, .uint32, .uint16, .int4, .bfloat16, .int2, .uint4,
  ]
  /// A handle of a variable or a table.
  static let resource = 13

  // MARK: - Operators

  static let customOperator = 32

  /// The names of the operators, by their numbers.
  static let operatorNames: [String] = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION
    LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
    CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
    ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
    TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK
    LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD
    RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N
    GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE
    ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
    STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
    STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """.split(whereSeparator: \.isWhitespace).map(String.init)

  /// The types of the options of operators that have some that are read. An operator without options has the defaults.
  static let optionTypes: [String: UInt8] = [
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "L2_POOL_2D": 5, "SVDF": 6, "RNN": 7,
    "FULLY_CONNECTED": 8, "SOFTMAX": 9, "CONCATENATION": 10, "ADD": 11, "L2_NORMALIZATION": 12,
    "LOCAL_RESPONSE_NORMALIZATION": 13, "LSTM": 14, "RESIZE_BILINEAR": 15, "CALL": 16, "RESHAPE": 17,
    "SPACE_TO_DEPTH": 19, "MUL": 21, "GATHER": 23, "MEAN": 27, "SUM": 27, "REDUCE_PROD": 27, "REDUCE_MAX": 27,
    "REDUCE_MIN": 27, "REDUCE_ANY": 27, "REDUCE_ALL": 27, "SUB": 28, "DIV": 29, "SQUEEZE": 30,
    "UNIDIRECTIONAL_SEQUENCE_RNN": 31, "STRIDED_SLICE": 32, "SPLIT": 35, "ARG_MAX": 40, "TRANSPOSE_CONV": 49,
    "SHAPE": 55, "ARG_MIN": 57, "FAKE_QUANT": 58, "PACK": 59, "ONE_HOT": 61, "UNPACK": 64,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 69, "BIDIRECTIONAL_SEQUENCE_RNN": 70, "UNIDIRECTIONAL_SEQUENCE_LSTM": 71,
    "RESIZE_NEAREST_NEIGHBOR": 74, "LEAKY_RELU": 75, "MIRROR_PAD": 77, "SPLIT_V": 79, "REVERSE_SEQUENCE": 87, "IF": 92,
    "WHILE": 93, "DEPTH_TO_SPACE": 94, "BATCH_MATMUL": 101, "CUMSUM": 102, "CALL_ONCE": 103, "CONV_3D": 106,
    "CONV_3D_TRANSPOSE": 106, "VAR_HANDLE": 111, "RANDOM_UNIFORM": 114, "RANDOM_STANDARD_NORMAL": 114,
    "MULTINOMIAL": 114, "BUCKETIZE": 115, "GELU": 116,
  ]
  /// The same of the second kind of options.
  static let laterOptionTypes: [String: UInt8] = [
    "STABLEHLO_CONCATENATE": 1, "STABLEHLO_BROADCAST_IN_DIM": 2, "STABLEHLO_SLICE": 3, "STABLEHLO_COMPARE": 8,
    "STABLEHLO_IOTA": 11, "STABLEHLO_TRANSPOSE": 17, "STABLEHLO_COMPOSITE": 21,
  ]
}
