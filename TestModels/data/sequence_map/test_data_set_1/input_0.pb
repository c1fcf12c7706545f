
partsJ¢T$?rQX?