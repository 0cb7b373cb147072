path 'secret/data/mailer' {}
