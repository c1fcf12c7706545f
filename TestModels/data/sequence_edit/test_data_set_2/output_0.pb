
edited Jg=v·2=Ş„ş¿Po¾éö‚¾«Ev?