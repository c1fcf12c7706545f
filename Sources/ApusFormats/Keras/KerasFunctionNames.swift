// The functions of TensorFlow that Keras 2 puts between layers, and the operations of keras.ops that do the same.

extension KerasOperations {
  static let functionNames: [String: String] = [
    "__operators__.add": "Add", "math.add": "Add", "add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.divide": "Divide", "math.truediv": "Divide", "math.floordiv": "FloorDivide", "math.pow": "Power",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "math.squared_difference": "SquaredDifference",
    "linalg.matmul": "Matmul", "math.negative": "Negative", "math.abs": "Absolute", "math.exp": "Exp",
    "math.log": "Log",
    "math.sqrt": "Sqrt", "math.rsqrt": "Rsqrt", "math.square": "Square", "math.floor": "Floor", "math.ceil": "Ceil",
    "math.round": "Round", "math.sign": "Sign", "math.sin": "Sin", "math.cos": "Cos", "math.tanh": "Tanh",
    "math.erf": "Erf", "math.sigmoid": "Sigmoid", "math.softplus": "Softplus", "math.reciprocal": "Reciprocal",
    "math.log1p": "Log1p", "math.expm1": "Expm1", "math.equal": "Equal", "math.not_equal": "NotEqual",
    "math.greater": "Greater", "math.greater_equal": "GreaterEqual", "math.less": "Less",
    "math.less_equal": "LessEqual",
    "math.logical_and": "LogicalAnd", "math.logical_or": "LogicalOr", "math.logical_not": "LogicalNot",
    "math.reduce_mean": "Mean", "math.reduce_sum": "Sum", "math.reduce_max": "Max", "math.reduce_min": "Min",
    "math.reduce_prod": "Prod", "math.reduce_logsumexp": "Logsumexp", "math.reduce_variance": "Var",
    "math.reduce_std": "Std", "math.argmax": "Argmax", "math.argmin": "Argmin", "math.cumsum": "Cumsum",
    "math.l2_normalize": "Normalize", "math.reduce_any": "Any", "math.reduce_all": "All", "math.top_k": "TopK",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.sigmoid": "Sigmoid", "nn.tanh": "Tanh", "nn.softmax": "Softmax",
    "nn.log_softmax": "LogSoftmax", "nn.gelu": "Gelu", "nn.silu": "Silu", "nn.swish": "Silu", "nn.elu": "Elu",
    "nn.selu": "Selu", "nn.leaky_relu": "LeakyRelu", "nn.softplus": "Softplus", "nn.softsign": "Softsign",
    "reshape": "Reshape", "transpose": "Transpose", "expand_dims": "ExpandDims", "squeeze": "Squeeze",
    "concat": "Concatenate", "stack": "Stack", "split": "Split", "unstack": "Unstack", "tile": "Tile", "pad": "Pad",
    "compat.v1.pad": "Pad", "reverse": "Flip", "repeat": "Repeat", "cast": "Cast", "clip_by_value": "Clip",
    "where": "Where", "one_hot": "OneHot", "einsum": "Einsum", "identity": "Copy", "stop_gradient": "StopGradient",
    "broadcast_to": "BroadcastTo", "gather": "Take", "compat.v1.gather": "Take", "ones_like": "OnesLike",
    "zeros_like": "ZerosLike", "compat.v1.transpose": "Transpose", "compat.v1.squeeze": "Squeeze",
    "__operators__.getitem": "GetItem", "image.resize": "Resize", "image.resize_v2": "Resize",
  ]
}
