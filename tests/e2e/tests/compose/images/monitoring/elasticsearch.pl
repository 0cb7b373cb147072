# One request at a time: who is not elastic is answered 401; what elastic sets below /_security/ is kept.
use strict;
use warnings;
use IO::Socket::INET;

open my $file, '<', '/tmp/record/authorization' or die $!;
my $authorization = 'Basic ' . <$file>;
my $server = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 16, ReuseAddr => 1) or die $!;
$SIG{TERM} = sub { exit 0 };
while (1) {
    my $client = $server->accept or next;
    my $request = <$client> // next;
    my %header;
    while (defined(my $line = <$client>)) {
        $line =~ s/\r?\n//;
        last if $line eq '';
        $header{lc $1} = $2 if $line =~ /^([^:]+):\s*(.*)$/;
    }
    read $client, my $body, $header{'content-length'} // 0;
    my $status = '200 OK';
    if (($header{authorization} // '') ne $authorization) {
        $status = '401 Unauthorized';
    } elsif ($request =~ m{^POST /_security/([a-z_/]+) }) {
        open my $kept, '>', '/tmp/record/' . $1 =~ tr{/}{-}r or die $!;
        print $kept $body;
        close $kept;
    }
    print $client "HTTP/1.1 $status\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    close $client;
}
