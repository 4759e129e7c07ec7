package web_test

import (
	"context"
	"time"

	"login-server/notify"
)

// delivered waits until nothing is left to be sent that is due. Deliveries begin with the
// first call: other tests count what the store is asked for.
func (s *server) delivered() {
	s.t.Helper()
	if q := s.notify; s.delivers != q {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); q.Run(ctx) }()
		s.delivers = q
		s.t.Cleanup(func() {
			stop()
			<-done
			if s.delivers == q {
				s.delivers = nil
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // the workers are not ours
		waiting := 0
		for _, channel := range []string{notify.ChannelMail, notify.ChannelSMS} {
			stats, err := s.notify.Stats(context.Background(), channel)
			if err != nil {
				s.t.Fatalf("messages that wait: %v", err)
			}
			waiting += stats.Waiting
		}
		if waiting == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d messages are not sent", waiting)
		}
	}
}

// mails are all mails to an address, the latest first.
func (s *server) mails(to string) []notify.Mail {
	s.t.Helper()
	s.delivered()
	var mails []notify.Mail
	for _, m := range s.notify.Catcher().Mails() {
		if m.To == to {
			mails = append(mails, m.Mail)
		}
	}
	return mails
}

// mail is the latest mail to an address. There has to be one.
func (s *server) mail(to string) notify.Mail {
	s.t.Helper()
	mails := s.mails(to)
	if len(mails) == 0 {
		s.t.Fatalf("%s has no mail", to)
	}
	return mails[0]
}

// texts are all SMS to a number, the latest first.
func (s *server) texts(to string) []notify.SMS {
	s.t.Helper()
	s.delivered()
	var texts []notify.SMS
	for _, m := range s.notify.Catcher().SMS() {
		if m.To == to {
			texts = append(texts, m.SMS)
		}
	}
	return texts
}

// sms is the latest SMS to a number. There has to be one.
func (s *server) sms(to string) notify.SMS {
	s.t.Helper()
	texts := s.texts(to)
	if len(texts) == 0 {
		s.t.Fatalf("%s has no SMS", to)
	}
	return texts[0]
}
