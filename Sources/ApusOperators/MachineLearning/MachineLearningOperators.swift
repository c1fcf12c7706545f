// The list of the MachineLearning family: one line an operator.

import ApusGraph

let machineLearningOperators: [any OperatorDefinition] = [
  ArrayFeatureExtractor(),
  Binarizer(),
  CastMap(),
  CategoryMapper(),
  DictVectorizer(),
  FeatureVectorizer(),
  Imputer(),
  LabelEncoder(),
  LinearClassifier(),
  LinearRegressor(),
  Normalizer(),
  OneHotEncoder(),
  Scaler(),
  SVMClassifier(),
  SVMRegressor(),
  TreeEnsemble(),
  TreeEnsembleClassifier(),
  TreeEnsembleRegressor(),
  ZipMap(),
]
